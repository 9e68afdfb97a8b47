//! Every file that is bad in some way.

use crate::{decoded, files, shared};
use tracefarm::otlp::Limits;

#[test]
fn bad() {
    let Some(shared) = shared() else { return };
    for (name, object) in files(&shared.join("bad")) {
        let (_, bad, count) = decoded(&object, &Limits::default());
        eprintln!("{name}: {count} spans");
        for part in bad {
            eprintln!("    {} · {} · {}", part.reason, part.at, part.message);
        }
    }
}
