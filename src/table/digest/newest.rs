//! Lists that keep the first few by some order, one entry a trace.

use std::cmp::Ordering;

use super::EntryRef;

/// An order in which the greatest is the best.
pub(super) type By = fn(&EntryRef, &EntryRef) -> Ordering;

/// The newest is the best: by time, then trace id; the rest only makes it the same everywhere.
pub(super) const NEWEST: By = Ord::cmp;

/// The slowest is the best, and of equally slow ones the newest.
pub(super) const SLOWEST: By = |a, b| a.duration_ns.cmp(&b.duration_ns).then_with(|| a.cmp(b));

/// Whether [`keep`] would take an entry that compares so to the list's last one.
pub(super) fn has_room(list: &[EntryRef], most: usize, than_last: impl FnOnce(&EntryRef) -> Ordering) -> bool {
    list.len() < most || list.last().is_none_or(|last| than_last(last).is_gt())
}

/// Puts `entry` into `list`, which holds for each trace its best entry, best first, at most `most`.
///
/// Keeping the best of each part keeps the best of all, in whatever order parts are merged: an entry that is among the
/// best of all is among the best of its own part.
pub(super) fn keep(list: &mut Vec<EntryRef>, most: usize, entry: &EntryRef, by: By) {
    if !has_room(list, most, |last| by(entry, last)) {
        return;
    }
    if let Some(same) = list.iter().position(|kept| kept.trace_id == entry.trace_id) {
        if by(entry, &list[same]).is_le() {
            return;
        }
        list.remove(same);
    }
    let place = list.partition_point(|kept| by(kept, entry).is_gt());
    list.insert(place, entry.clone());
    list.truncate(most);
}
