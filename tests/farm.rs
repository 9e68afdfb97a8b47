//! Several workers as processes on one store: what they do together, and what an object that kills them can do.
#![expect(clippy::unwrap_used, reason = "these are tests")]
#![cfg(target_os = "linux")]

#[path = "support/farm.rs"]
mod farm;
#[path = "support/official.rs"]
mod official;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use farm::Farm;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Enough memory for a worker, and not for [`a_monster`].
const MEMORY: &str = "--data=300000000";

/// One line of JSON that is well-formed and, decompressed, larger than the memory: reading it ends the process, not
/// with an error but at once.
fn a_monster(path: &Path) {
    let mut file = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
    let head = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0123456789abcdef0123456789abcdef","spanId":"0123456789abcdef","name":""#;
    file.write_all(head.as_bytes()).unwrap();
    let name = vec![b'a'; 1 << 20];
    for _ in 0..120 {
        file.write_all(&name).unwrap();
    }
    file.write_all(br#"","startTimeUnixNano":"1795310000000000000","endTimeUnixNano":"1795310000000000001"}]}]}]}"#)
        .unwrap();
    file.finish().unwrap();
}

/// A minute passes for those that died.
fn a_minute_passes(farm: &Farm) {
    for heartbeat in farm.files("farm/workers") {
        let written = fs::metadata(&heartbeat).unwrap().modified().unwrap();
        let file = File::options().write(true).open(heartbeat).unwrap();
        file.set_modified(written - Duration::from_secs(61)).unwrap();
    }
}

fn limited(farm: &Farm) -> Output {
    let command = farm.command();
    let mut limited = Command::new("prlimit");
    limited.args([MEMORY, "--core=0"]).arg(command.get_program()).args(command.get_args());
    limited.args(["run", "--once", "--memory", "64MiB"]).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    limited.stdout(Stdio::null()).output().unwrap()
}

#[test]
fn an_object_that_kills_workers_is_quarantined_after_its_third_lonely_death_and_nothing_else_is() {
    let farm = Farm::local();
    farm.put(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/inbox"));
    let innocent = farm.files("inbox").len();
    // A message may be larger than the memory: somebody asked for trouble.
    farm.ran(0, &["settings", "set", "max_message_bytes=128MiB"]);
    // In the middle of the others.
    let monster = farm.path().join("inbox/m/monster.json.gz");
    fs::create_dir_all(monster.parent().unwrap()).unwrap();
    a_monster(&monster);
    let mut deaths = 0;
    let last = loop {
        let output = limited(&farm);
        if output.status.success() {
            break output;
        }
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(6), "it aborts: {error}");
        assert!(error.contains("memory allocation of"), "{error}");
        assert!(monster.exists(), "it stays where it is");
        assert_eq!(farm.files("quarantine").len(), 0);
        deaths += 1;
        assert!(deaths < 7, "it goes on killing: {error}");
        a_minute_passes(&farm);
    };
    assert_eq!(deaths, 5, "once among all, once among few, and three times alone");
    let quarantined = farm.files("quarantine/deadly");
    let names: Vec<&str> = quarantined.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().all(|name| name.contains("monster.json.gz")), "{names:?}");
    assert_eq!(farm.files("quarantine").len(), 2, "nothing else");
    let reason = quarantined.iter().find(|path| path.to_str().unwrap().ends_with(".error.json")).unwrap();
    let reason = fs::read_to_string(reason).unwrap();
    assert!(reason.contains("3 workers died, one after the other"), "{reason}");
    let said = String::from_utf8_lossy(&last.stderr);
    assert!(said.contains("monster.json.gz goes to quarantine"), "{said}");
    assert_eq!(farm.files("inbox").len(), 0);
    assert_eq!(farm.files("farm/strikes").len(), 0, "strikes go with their object");
    let check = farm.json(&["check", "-o", "json"]);
    assert_eq!((check["spans"].as_u64().unwrap() > 0, check["violation_count"].as_u64()), (true, Some(0)), "{check}");
    assert!(innocent > 10, "{innocent}");
}
