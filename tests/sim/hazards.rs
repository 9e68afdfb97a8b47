//! The hazards that a model checker found in earlier versions of the protocol, and those that its rules close, each as a
//! scene on the real code. A scene is played once for every call of one of its workers, which hangs there, stands still
//! there, dies there, or hears of an error, before or after the call's effect, while the others go on.

use super::farm::STEPS;
use super::farm::Step::{Compact, Examine, Expire, Forget, Index, Publish};
use super::scene::{Scene, every_place};
use super::spans::{Form, object};

/// A quick run stops at every seventh call, or as often as a scene needs it; a thorough one (`TRACEFARM_SIM_SEEDS`) at
/// each.
fn stride(quick: u64) -> u64 {
    if std::env::var_os("TRACEFARM_SIM_SEEDS").is_some() { 1 } else { quick }
}

macro_rules! hazards {
    ($($(#[doc = $doc:literal])* async fn $name:ident($scene:ident $(, shards = $shards:literal)? $(, every = $every:literal)?) $body:block)*) => {
        $(
            $(#[doc = $doc])*
            #[test]
            fn $name() {
                let shards = [1 $(, $shards)?].into_iter().last().unwrap();
                let stride = stride([7 $(, $every)?].into_iter().last().unwrap());
                every_place(stringify!($name), shards, stride, async |$scene: &mut Scene| $body);
            }
        )*
    };
}

hazards! {
    /// Two workers index the same objects, one of them stored twice under two names; one dies or sleeps.
    async fn an_object_is_indexed_twice(s) {
        let (a, b) = (s.entry("/h", 5), s.entry("/g", 4));
        let c = s.child(&a, 0);
        s.arrive(&[&a, &c, &b]);
        s.arrive(&[&a, &c]);
        s.interleave(&[Index], async |s| {
            s.work(&[Index, Compact]).await;
            s.minutes(11).await;
            s.work(&[Compact]).await;
        }).await;
    }

    /// A client that heard no answer PUTs the same bytes under the same key again, while they are being indexed.
    async fn the_same_key_is_put_again(s) {
        let a = s.entry("/h", 5);
        let path = s.arrive(&[&a]);
        s.interleave(&[Index], async |s| {
            s.minutes(2).await;
            let spans = std::slice::from_ref(&a);
            s.world.arrive_at(&path, object(spans, Form::GzipProto), spans);
            s.work(&[Index]).await;
        }).await;
    }

    /// An inbox object grows between the read and the delete.
    async fn an_object_grows_while_it_is_indexed(s) {
        let (a, b) = (s.entry("/h", 5), s.entry("/h", 4));
        let path = s.arrive(&[&a]);
        let both = [a, b];
        s.interleave(&[Index], async |s| {
            s.world.arrive_at(&path, object(&both, Form::Proto), &both);
        }).await;
    }

    /// Level-0 blocks of four shards: some are covered, others not yet; a straggler comes; the chain of merges goes on.
    async fn shards_are_compacted_one_by_one(s, shards = 4) {
        for n in 0..4 {
            let (a, b) = (s.entry(&format!("/h{n}"), 5), s.entry(&format!("/h{n}"), 4));
            s.arrive(&[&a, &b]);
        }
        s.work(&[Index]).await;
        s.interleave(&[Compact], async |s| {
            let c = s.entry("/h0", 3);
            s.arrive(&[&c]);
            s.work(&[Index, Compact]).await;
            s.minutes(11).await;
            s.work(&[Compact]).await;
        }).await;
    }

    /// Two workers merge the same inputs, and merge the outputs again, while one of them still holds its old listing.
    async fn two_merge_the_same(s) {
        for n in 0..3 {
            let a = s.entry("/h", 5 + n);
            s.arrive(&[&a]);
            s.work(&[Index]).await;
        }
        s.interleave(&[Compact], async |s| {
            s.work(&[Compact]).await;
            let a = s.entry("/h", 1);
            s.arrive(&[&a]);
            s.work(&[Index, Compact]).await;
            s.minutes(11).await;
            s.work(&[Compact]).await;
            s.minutes(11).await;
            s.work(&[Compact]).await;
        }).await;
    }

    /// All rows of an hour are forgotten: the merge that replaces them has nothing to write, and is written.
    async fn an_empty_output(s) {
        let a = s.entry("/h", 5);
        s.arrive(&[&a]);
        s.work(&[Index]).await;
        s.world.forget(a.trace).await;
        s.interleave(&[Forget, Compact], async |s| {
            s.minutes(11).await;
            s.work(&[Forget, Compact]).await;
        }).await;
    }

    /// `forget` while a merge has read the blocks and not written yet.
    async fn forget_while_compacting(s) {
        let (a, b) = (s.entry("/h", 5), s.entry("/h", 4));
        s.arrive(&[&a]);
        s.work(&[Index]).await;
        s.arrive(&[&b]);
        s.work(&[Index]).await;
        s.interleave(&[Compact], async |s| {
            s.world.forget(a.trace).await;
            s.work(&[Forget]).await;
        }).await;
    }

    /// `forget`, then a copy of the trace is indexed that was on its way, or was retried.
    async fn forget_while_indexing(s) {
        let (a, b) = (s.entry("/h", 5), s.entry("/h", 4));
        s.arrive(&[&a, &b]);
        s.interleave(&[Index], async |s| {
            s.world.forget(a.trace).await;
            s.work(&[Forget]).await;
        }).await;
        s.arrive(&[&a]);
    }

    /// A trace is pinned while its hour is about to go; then another span of it arrives.
    async fn a_late_span_of_a_pinned_trace(s) {
        let a = s.entry("/h", 5);
        let late = s.child(&a, 0);
        s.arrive(&[&a]);
        s.work(&STEPS).await;
        s.minutes(190).await;
        s.work(&STEPS).await;
        s.interleave(&[Expire], async |s| {
            s.arrive(&[&late]);
            s.work(&[Index]).await;
            s.minutes(61).await;
            s.work(&[Expire]).await;
        }).await;
        s.minutes(61).await;
    }

    /// The hour is past and its entries are gone; a late span, without an entry, of a pinned trace is indexed into it.
    async fn a_late_span_when_the_entries_are_gone(s) {
        let a = s.entry("/h", 5);
        let late = s.child(&a, 0);
        s.arrive(&[&a]);
        s.work(&STEPS).await;
        s.minutes(260).await;
        s.work(&[Expire]).await;
        s.arrive(&[&late]);
        s.interleave(&[Index, Expire], async |s| {
            s.minutes(11).await;
            s.work(&[Index, Expire]).await;
            s.minutes(11).await;
            s.work(&[Expire]).await;
        }).await;
    }

    /// A trace lies in two hours; two workers let the first go, one of them slow between the entries and the spans.
    async fn a_partial_pin_over_a_whole_one(s) {
        let a = s.entry("/h", 30);
        let (b, c) = (s.child(&a, 0), s.child(&a, 20));
        s.arrive(&[&a, &b]);
        s.arrive(&[&c]);
        s.work(&[Index, Compact]).await;
        s.minutes(200).await;
        s.interleave(&[Expire], async |s| {
            s.work(&[Expire]).await;
            s.minutes(30).await;
            s.work(&[Expire]).await;
        }).await;
        s.minutes(61).await;
    }

    /// A straggler with an entry is indexed into the hour that is being let go.
    async fn a_straggler_into_an_hour_that_goes(s) {
        let (a, b) = (s.entry("/h", 5), s.entry("/h", 4));
        s.arrive(&[&a]);
        s.work(&STEPS).await;
        s.minutes(250).await;
        s.interleave(&[Expire], async |s| {
            s.arrive(&[&b]);
            s.work(&[Index]).await;
            s.minutes(11).await;
            s.work(&[Expire]).await;
        }).await;
        s.minutes(11).await;
        s.work(&[Expire]).await;
    }

    /// The same, and it is the indexing worker that is stopped: its entries come late, its spans were there early.
    async fn a_straggler_that_is_slow(s) {
        let (a, b) = (s.entry("/h", 5), s.entry("/h", 4));
        let c = s.child(&b, 0);
        s.arrive(&[&a]);
        s.work(&STEPS).await;
        s.minutes(250).await;
        s.arrive(&[&b, &c]);
        s.interleave(&[Index], async |s| {
            s.work(&[Expire]).await;
            s.minutes(11).await;
            s.work(&[Expire]).await;
            s.minutes(11).await;
            s.work(&[Expire]).await;
        }).await;
    }

    /// An hour goes while another worker compacts its spans and entries: pages of listings are taken in between.
    async fn an_hour_goes_while_it_is_compacted(s, shards = 4) {
        for n in 0..3 {
            let (a, b) = (s.entry("/h", 10 + n), s.entry("/g", 5 + n));
            let c = s.child(&a, 0);
            s.arrive(&[&a, &b, &c]);
            s.work(&[Index]).await;
        }
        s.minutes(250).await;
        s.interleave(&[Expire], async |s| {
            s.work(&[Compact]).await;
            s.minutes(11).await;
            s.work(&[Compact]).await;
        }).await;
    }

    /// The same, and it is the compacting worker that is stopped.
    async fn an_hour_is_compacted_while_it_goes(s) {
        for n in 0..3 {
            let (a, b) = (s.entry("/h", 10 + n), s.entry("/g", 5 + n));
            let c = s.child(&a, 0);
            s.arrive(&[&a, &b, &c]);
            s.work(&[Index]).await;
        }
        s.minutes(250).await;
        s.interleave(&[Compact], async |s| {
            s.work(&[Expire]).await;
            s.minutes(11).await;
            s.work(&[Expire]).await;
        }).await;
    }

    /// One block of entries has rows of several entry shards: it is covered, and may go, only when each is.
    async fn entries_of_two_shards_in_one_block(s, shards = 4) {
        let spans: Vec<_> = (0..6).map(|n| s.entry(&format!("/h{n}"), 5 + n)).collect();
        s.arrive(&spans.iter().collect::<Vec<_>>());
        s.work(&[Index]).await;
        s.minutes(250).await;
        s.interleave(&[Expire], async |s| {
            s.work(&[Expire]).await;
            s.minutes(11).await;
            s.work(&[Expire]).await;
        }).await;
    }

    /// A trace enters one handler in an hour and another in the next; the first hour goes before anybody looked at the
    /// second handler.
    async fn a_trace_enters_two_handlers_in_two_hours(s) {
        let a = s.entry("/first", 30);
        let b = s.maker.child(&a, "cart", super::spans::Does::Serve("/second".to_owned()), 20 * 60_000_000_000);
        let c = s.child(&a, 0);
        s.arrive(&[&a, &c]);
        s.arrive(&[&b]);
        s.work(&[Index]).await;
        s.minutes(200).await;
        s.interleave(&[Expire], async |s| {
            s.minutes(11).await;
            s.work(&[Expire, Compact]).await;
        }).await;
        s.minutes(61).await;
        s.work(&[Expire]).await;
    }

    /// Documents are written while the hour is not past yet; then a late child of a covered trace is indexed into the
    /// hour before; then the hours go.
    async fn a_late_child_in_the_hour_before(s) {
        let a = s.entry("/h", 15);
        let late = s.child(&a, -10);
        s.arrive(&[&a]);
        s.work(&STEPS).await;
        s.minutes(160).await;
        s.work(&[Expire]).await;
        s.interleave(&[Expire], async |s| {
            s.arrive(&[&late]);
            s.work(&[Index]).await;
            s.minutes(61).await;
            s.work(&[Expire]).await;
        }).await;
        s.minutes(61).await;
        s.work(&[Expire]).await;
    }

    /// Two workers pin with different listings; newer traces arrive, so that each wants to drop what the other pins.
    async fn two_pin_with_different_listings(s) {
        for n in 0..3 {
            let a = s.entry("/h", 20 - n);
            s.arrive(&[&a]);
        }
        s.work(&[Index]).await;
        s.minutes(250).await;
        s.work(&[Expire]).await;
        s.interleave(&[Expire], async |s| {
            for n in 0..2 {
                let a = s.entry("/h", 200 - n);
                s.arrive(&[&a]);
            }
            s.work(&[Index, Expire]).await;
            s.minutes(70).await;
            s.work(&[Expire]).await;
        }).await;
        s.minutes(61).await;
        s.work(&[Expire]).await;
    }

    /// One trace enters the same handler twice, an older and a newer time: it is pinned by its newest entry.
    async fn a_trace_enters_a_handler_twice(s) {
        let a = s.entry("/h", 20);
        let b = s.entry("/h", 10);
        let again = s.maker.child(&a, "web", super::spans::Does::Serve("/h".to_owned()), 15 * 60_000_000_000);
        s.arrive(&[&a]);
        s.work(&[Index]).await;
        s.arrive(&[&b]);
        s.work(&[Index]).await;
        s.minutes(250).await;
        s.interleave(&[Expire], async |s| {
            s.arrive(&[&again]);
            s.work(&[Index, Expire]).await;
        }).await;
        s.minutes(11).await;
        s.work(&[Expire]).await;
    }

    /// `keep_last` is raised while a worker lets an hour go by the old value. What was safe by the old one must not be
    /// lost: the raised value counts for what was still there.
    async fn keep_last_is_raised(s) {
        for n in 0..5 {
            let a = s.entry("/h", 20 - n);
            s.arrive(&[&a]);
        }
        s.work(&[Index]).await;
        s.minutes(170).await;
        s.work(&[Expire]).await;
        s.interleave(&[Expire], async |s| {
            s.world.set(&[("keep_last", "4")]).await;
            s.minutes(7).await;
            s.work(&[Expire]).await;
        }).await;
        s.minutes(61).await;
        s.work(&[Expire]).await;
    }

    /// The number of shards changes between two indexings of one object.
    async fn shards_change_between_two_indexings(s) {
        let a = s.entry("/h", 5);
        s.arrive(&[&a]);
        s.interleave(&[Index], async |s| {
            s.world.set(&[("shards", "4")]).await;
            s.work(&[Index]).await;
        }).await;
        s.minutes(200).await;
        let b = s.entry("/h", 5);
        s.arrive(&[&b]);
        s.work(&[Index, Compact]).await;
    }

    /// A span without times is exported again under another name, and received in the next hour.
    async fn a_span_without_times_is_received_twice(s) {
        let mut a = s.entry("/h", 5);
        (a.start_ns, a.end_ns) = (0, 0);
        a.service = "odd".to_owned();
        s.arrive(&[&a]);
        s.interleave(&[Index], async |s| {
            s.minutes(60).await;
            s.arrive(&[&a]);
            s.work(&[Index, Compact]).await;
        }).await;
    }

    /// A merge of several files lands while a reader lists: of its files some sort before what the reader has seen, and
    /// the last, which hides the inputs, may sort after it. Then the inputs are swept, if they may be.
    async fn a_merge_lands_between_what_a_reader_has_listed(s) {
        let spans = s.runs_of_several_files().await;
        s.read_while(&spans, async |s| s.work(&[Compact, Compact]).await).await;
    }

    /// The same, and the reader is stopped for longer than the grace.
    async fn a_reader_that_sleeps_between_pages(s) {
        let spans = s.runs_of_several_files().await;
        s.read_while(&spans, async |s| {
            s.work(&[Compact]).await;
            s.minutes(11).await;
            s.work(&[Compact]).await;
        }).await;
    }

    /// Level-0 blocks become the first blocks of level 1 while a reader lists.
    async fn a_reader_while_the_first_merge_lands(s) {
        s.world.file_bytes = 1;
        let spans: Vec<_> = (0..4).map(|n| s.entry("/h", 5 + n)).collect();
        for made in &spans {
            s.arrive(&[made]);
            s.work(&[Index]).await;
        }
        s.read_while(&spans, async |s| {
            s.work(&[Compact]).await;
            s.minutes(11).await;
            s.work(&[Compact]).await;
        }).await;
    }

    /// An hour goes while a reader looks for a trace that stays as a pin.
    async fn a_reader_while_an_hour_goes(s) {
        let spans: Vec<_> = (0..2).map(|n| s.entry("/h", 5 + n)).collect();
        for made in &spans {
            s.arrive(&[made]);
            s.work(&[Index]).await;
        }
        s.minutes(250).await;
        s.read_while(&spans, async |s| {
            s.work(&[Expire]).await;
            s.minutes(11).await;
            s.work(&[Expire]).await;
        }).await;
    }

    /// Summaries are made while merges and sweeps go on.
    async fn publishing_while_compacting(s) {
        for n in 0..4 {
            let a = s.entry("/h", 5 + n);
            let b = s.child(&a, 0);
            s.arrive(&[&a, &b]);
            s.work(&[Index]).await;
        }
        s.interleave(&[Publish], async |s| {
            s.work(&[Compact]).await;
            s.minutes(11).await;
            s.work(&[Compact, Publish]).await;
        }).await;
    }

    /// A straggler is indexed into an hour that is past: its spans stand, its entries do not yet, and another worker lets
    /// the hour go right then.
    async fn a_straggler_whose_entries_come_a_moment_later(s) {
        let (a, b) = (s.entry("/h", 5), s.entry("/h", 4));
        let c = s.child(&b, 0);
        s.arrive(&[&a]);
        s.work(&STEPS).await;
        s.minutes(250).await;
        s.arrive(&[&b, &c]);
        s.interleave(&[Index], async |s| s.work(&[Expire]).await).await;
        s.minutes(11).await;
        s.work(&[Expire]).await;
    }

    /// Two share the work of letting an hour go; one of them does not come on.
    async fn one_of_two_is_slow_to_pin(s, shards = 4) {
        let spans: Vec<_> = (0..8).map(|n| s.entry(&format!("/h{n}"), 5 + n)).collect();
        s.arrive(&spans.iter().collect::<Vec<_>>());
        s.work(&[Index]).await;
        s.minutes(250).await;
        s.peers = 2;
        s.interleave(&[Expire], async |s| {
            s.work(&[Expire]).await;
            s.minutes(11).await;
            s.work(&[Expire]).await;
        }).await;
        s.peers = 1;
    }

    /// A publisher dies between the pages of a handler and the part that names them; then the handler's only trace is
    /// forgotten, so that nobody would ever write these pages again.
    async fn pages_that_no_part_names(s) {
        let (a, b) = (s.entry("/h", 5), s.entry("/g", 5));
        s.arrive(&[&a, &b]);
        s.work(&[Index]).await;
        s.interleave(&[Publish], async |s| {
            s.world.forget(a.trace).await;
            s.work(&[Forget, Compact]).await;
        }).await;
    }

    /// An hour is covered: two traces of each handler are pinned. Then more are to be kept. Two let the hour go, and the
    /// one that should look at the entries again does not come on; the other must not go by what was pinned for less.
    async fn keep_last_is_raised_after_an_hour_was_covered(s, shards = 4) {
        let spans: Vec<_> = (0..12).map(|n| s.entry(&format!("/h{}", n % 4), 1 + n)).collect();
        s.arrive(&spans.iter().collect::<Vec<_>>());
        s.work(&[Index]).await;
        s.minutes(170).await;
        s.work(&[Expire]).await;
        s.world.set(&[("keep_last", "3")]).await;
        s.minutes(80).await;
        s.peers = 2;
        s.interleave(&[Expire], async |s| s.work(&[Expire]).await).await;
        s.peers = 1;
    }

    /// The same, and it is a newer trace that is forgotten.
    async fn a_newer_trace_is_forgotten_after_an_hour_was_covered(s, shards = 4) {
        let spans: Vec<_> = (0..12).map(|n| s.entry(&format!("/h{}", n % 4), 1 + n / 4)).collect();
        s.arrive(&spans.iter().collect::<Vec<_>>());
        s.work(&[Index]).await;
        s.minutes(170).await;
        s.work(&[Expire]).await;
        for newest in &spans[..4] {
            s.world.forget(newest.trace).await;
        }
        s.minutes(80).await;
        s.peers = 2;
        s.interleave(&[Expire], async |s| s.work(&[Expire]).await).await;
        s.peers = 1;
    }

    /// A trace is pinned for one handler and its spans are gone; then it enters another, whose pin takes them from the
    /// first: they must not be missing there because that could not be read for a moment, or was just being replaced.
    async fn a_pin_is_made_of_another_handlers(s, every = 2) {
        let (a, other) = (s.entry("/first", 30), s.entry("/second", 40));
        let c = s.child(&a, 0);
        s.arrive(&[&a, &c, &other]);
        s.work(&[Index]).await;
        s.minutes(250).await;
        s.work(&[Expire]).await;
        let b = s.maker.child(&a, "web", super::spans::Does::Serve("/second".to_owned()), 20 * 60_000_000_000);
        let d = s.child(&a, 1);
        s.arrive(&[&b]);
        s.arrive(&[&d]);
        s.work(&[Index]).await;
        s.minutes(11).await;
        s.interleave(&[Expire], async |s| s.work(&[Expire]).await).await;
    }

    /// A trace lives in its pin alone: who cannot read that for a moment must not be told that there is no such trace.
    async fn a_reader_of_what_lives_in_a_pin(s, every = 1) {
        let a = s.entry("/h", 5);
        s.arrive(&[&a]);
        s.work(&STEPS).await;
        s.minutes(250).await;
        s.work(&STEPS).await;
        s.read_while(std::slice::from_ref(&a), async |_| {}).await;
    }

    /// Two take themselves for the last of three, and nobody is the others, whose part stays for a while.
    async fn two_claim_one_slice(s, shards = 4) {
        let spans: Vec<_> = (0..9).map(|n| s.entry(&format!("/h{n}"), 5 + n)).collect();
        for made in &spans {
            s.arrive(&[made]);
        }
        (s.peers, s.rank) = (3, 2);
        s.interleave(&STEPS, async |s| {
            s.work(&STEPS).await;
            s.minutes(11).await;
            s.work(&STEPS).await;
        }).await;
        (s.peers, s.rank) = (1, 0);
    }

    /// The same, of an hour that goes: an old list says two, a newer one three, so that their parts overlap.
    async fn slices_overlap_while_an_hour_goes(s, shards = 4) {
        let spans: Vec<_> = (0..9).map(|n| s.entry(&format!("/h{n}"), 5 + n)).collect();
        s.arrive(&spans.iter().collect::<Vec<_>>());
        s.work(&[Index, Compact]).await;
        s.minutes(250).await;
        s.peers = 2;
        s.interleave(&[Expire], async |s| {
            (s.peers, s.rank) = (3, 1);
            s.work(&[Expire]).await;
            s.minutes(11).await;
            s.work(&[Expire]).await;
        }).await;
        (s.peers, s.rank) = (1, 0);
    }

    /// Two workers died with an object alone, and two find it out at once, one of them slowly: two strikes, however often
    /// they are given, quarantine nobody.
    async fn two_give_the_strikes_of_one_death(s, every = 3) {
        let (a, b) = (s.entry("/h", 5), s.entry("/g", 4));
        let (suspect, other) = (s.arrive(&[&a]), s.arrive(&[&b]));
        s.dies_with(&[&suspect, &other], false).await;
        s.dies_with(&[&suspect], true).await;
        s.dies_with(&[&suspect], true).await;
        s.interleave(&[Examine, Index], async |s| {
            s.work(&[Examine, Examine]).await;
            s.minutes(2).await;
            s.work(&[Examine]).await;
        }).await;
    }

    /// The third death alone is enough, and only for the object that was alone; whoever quarantines it may be stopped
    /// anywhere.
    async fn the_third_lonely_death(s, every = 3) {
        let b = s.entry("/g", 4);
        let (monster, other) = ("inbox/monster", s.arrive(&[&b]));
        s.world.garbage(monster, b"{");
        s.dies_with(&[monster, &other], false).await;
        for _ in 0..3 {
            s.dies_with(&[monster], true).await;
        }
        s.work(&[Examine]).await;
        s.interleave(&[Index], async |s| s.work(&[Examine, Index]).await).await;
        s.minutes(2).await;
        s.work(&[Examine, Index]).await;
        s.world.only_in_quarantine(monster);
    }
}
