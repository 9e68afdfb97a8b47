//! A disk that is full.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::{spans_at, told};

/// Runs `script` (of `sh`; `$SAMPLES` are traces of a shop, `$HOURS` of one handler in two hours) where a folder, `$STORE`, is a disk of so many kilobytes, and `$PROGRAM` is the program on a
/// store there. None, and said loudly, where nobody may mount one.
fn on_a_small_disk(kilobytes: u32, script: &str) -> Option<Output> {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let hours = folder.path().join("hours");
    [&store, &hours].into_iter().for_each(|folder| fs::create_dir(folder).unwrap());
    for hour in ["2026-11-22T00:10:00Z", "2026-11-22T05:10:00Z"] {
        fs::write(hours.join(format!("{hour}.json")), spans_at(hour.parse().unwrap(), 5)).unwrap();
    }
    let run = |script: &str| {
        let mut command = Command::new("unshare");
        // A user of its own may mount, too, where the kernel lets it.
        command.args(["--map-root-user", "--mount", "sh", "-euc", script]).env_clear();
        command
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("STORE", &store)
            .env("KILOBYTES", kilobytes.to_string());
        command.env("PROGRAM", env!("CARGO_BIN_EXE_tracefarm")).env("TRACEFARM_STORE", &store);
        command
            .env("HOURS", &hours)
            .env("SAMPLES", Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/inbox"))
            .env("TRACEFARM_LOG", "human");
        command.output()
    };
    let mount = r#"mount -t tmpfs -o "size=${KILOBYTES}k" tmpfs "$STORE""#;
    match run(mount) {
        Ok(output) if output.status.success() => {}
        output => {
            println!("LEFT OUT: no disk could be mounted for a full one: {output:?}");
            return None;
        }
    }
    Some(run(&format!("{mount}\n{script}")).unwrap())
}

/// What was told, but for the pages that found no room: whether they do depends on what expiry has freed by then.
fn without_pages(told: &str) -> String {
    let mut left = String::new();
    let mut record = String::new();
    for line in told.lines().chain(["exit"]) {
        if !line.starts_with("  ") {
            if record.contains("ERROR publish failed") {
                assert!(record.contains(" [folder]/site/") && record.contains("No space left on device"), "{told}");
            } else {
                left.push_str(&record);
            }
            record.clear();
        }
        record.push_str(line);
        record.push('\n');
    }
    left
}

#[test]
fn what_does_not_fit_stays_in_the_inbox_and_is_told() {
    let script = r#"
        # The pages stand already: nothing but what is indexed needs room.
        "$PROGRAM" settings set keep_last=9 >/dev/null && "$PROGRAM" run --once >/dev/null
        mkdir "$STORE/inbox" && cp "$SAMPLES"/file/* "$STORE/inbox/" && ls "$STORE/inbox" >"$STORE/before"
        # All the rest of the disk but some kilobytes: enough for heartbeats.
        head -c "$(($(df --output=avail -k "$STORE" | tail -1) * 1024 - 24576))" /dev/zero >"$STORE/filled"
        code=0; "$PROGRAM" run --once --name w-1 >/dev/null || code=$?
        ls "$STORE/inbox" | cmp - "$STORE/before" >&2
        exit "$code"
    "#;
    let Some(output) = on_a_small_disk(2048, script) else { return };
    insta::assert_snapshot!(told(&output), @"
    [time] ERROR a round of index failed
      write spans/shard=all/hour=[hour]/[ulid].parquet
      create [folder]/spans/shard=all/hour=[hour]/[ulid].parquet
      No space left on device (os error 28)
      → make room; what is past goes meanwhile, if it needs no pin
      in run rank=0 worker=[name] › stage=index › item=a batch of inbox objects
    exit 5
    ");
}

/// Hours of which nothing must be pinned go though not a byte can be written; so there is room for the pins of the
/// others.
#[test]
fn a_full_disk_does_not_stop_what_needs_no_pin_from_going() {
    let script = r#"
        mkdir "$STORE/inbox" && cp "$HOURS"/* "$STORE/inbox/"
        export TRACEFARM_NOW=2026-11-27T02:00:00Z
        "$PROGRAM" settings set keep_last=1 >/dev/null
        "$PROGRAM" run --once --grace 0s --yes >/dev/null
        before=$(find "$STORE/spans" -type f | wc -l)
        cat /dev/zero >"$STORE/filled" 2>/dev/null || true
        sync
        code=0; TRACEFARM_NOW=2026-12-09T02:00:00Z "$PROGRAM" run --once --grace 0s --yes --name w-1 >/dev/null || code=$?
        after=$(find "$STORE/spans" -type f | wc -l)
        echo "spans before: $before, after: $after" >&2
        exit "$code"
    "#;
    let Some(output) = on_a_small_disk(2048, script) else { return };
    insta::assert_snapshot!(without_pages(&told(&output)), @"
    [time] ERROR expire failed (1 of 3)
      expire entries [hour]
        expire entries 000-of-001
        write [folder]/farm/pinned/[hour]/000-of-001.json
        No space left on device (os error 28)
        → make room; what is past goes meanwhile, if it needs no pin
        in run rank=0 worker=[name] › stage=expire
    spans before: 2, after: 0
    exit 5
    ");
}
