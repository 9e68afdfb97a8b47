//! The program as a user meets it: help, mistakes, exit codes, pipes.

use std::process::{Command, Output, Stdio};

fn tracefarm(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracefarm"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TRACEFARM_") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = tracefarm(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn every_command_has_help() {
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, 0);
    let (_, commands) = help.split_once("Commands:").unwrap();
    let (commands, _) = commands.split_once("Options:").unwrap();
    let names: Vec<&str> = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    assert!(names.len() >= 14, "{names:?}");
    for name in names {
        let (code, help, _) = run(&[name, "--help"]);
        assert_eq!(code, 0, "{name}");
        assert!(help.contains("Usage:"), "{name}: {help}");
    }
}

#[test]
fn a_mistake_is_one_sentence_and_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("farm.toml");
    std::fs::write(&config, "[run]\nmemroy = '1GiB'\n").unwrap();
    let store = folder.path().display().to_string();
    let config = config.display().to_string();
    let cases: &[&[&str]] = &[
        &["check"],
        &["--store", "ftp://somewhere", "check"],
        &["--store", "/does/not/exist", "handlers"],
        &["--config", &config, "--store", &store, "status"],
        &["--config", "/does/not/exist.toml", "status"],
        &["--store", &store, "settings", "set", "shads=4"],
        &["--store", &store, "settings", "set", "shards=0"],
        &["--store", &store, "--log-level", "a=b=c", "check"],
        &["--store", &store, "run", "--once", "--memory", "1MiB"],
        &["--store", &store, "handlers", "add", "web", "users"],
    ];
    for case in cases {
        let (code, out, error) = run(case);
        assert_eq!((code, out.as_str()), (2, ""), "{case:?}: {error}");
        assert!(error.starts_with("tracefarm: ") && error.lines().count() == 1, "{case:?}: {error}");
    }
    // What the parser of the command line refuses ends alike.
    for case in [&["get", "xyz"][..], &["nonsense"], &["run", "--grace", "soon"], &["lifecycle", "ibm"]] {
        assert_eq!(run(case).0, 2, "{case:?}");
    }
}

#[test]
fn an_inbox_that_overlaps_the_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    };
    let store = path("farm/store");
    let inboxes = [store.clone(), path("farm/store/inbox"), path("farm/store/otlp"), path("farm")];
    for command in [&["run", "--once"][..], &["run", "--once", "--keep-inbox"], &["run", "--dry-run"], &["status"]] {
        for inbox in &inboxes {
            let (code, out, error) = run(&[&["-s", &store][..], command, &["--inbox", inbox]].concat());
            assert_eq!((code, out.as_str()), (2, ""), "{command:?} {inbox}: {error}");
            assert!(error.starts_with("tracefarm: ") && error.lines().count() == 1, "{error}");
            assert!(error.contains("overlap") && error.contains(inbox.as_str()), "{error}");
        }
    }
    // Nothing was written, and what is beside the store is no mistake.
    assert!(!std::path::Path::new(&store).join("farm").exists());
    for inbox in ["farm/store-2", "farm/otlp"] {
        assert_eq!(run(&["-s", &store, "run", "--once", "--inbox", &path(inbox)]).0, 0, "{inbox}");
    }
    // Another farm's store is no inbox, but its inbox is.
    let other = path("other");
    assert_eq!(run(&["-s", &other, "run", "--once"]).0, 0);
    path("other/inbox");
    let (code, _, error) = run(&["-s", &store, "run", "--once", "--inbox", &other]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains(&format!("{other} is the store of a farm")) && error.lines().count() == 1, "{error}");
    assert_eq!(run(&["-s", &store, "run", "--once", "--inbox", &format!("{other}/inbox")]).0, 0);
}

#[test]
fn what_is_not_there_has_a_code_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().display().to_string();
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let (code, out, error) = run(&["-s", &store, "get", id]);
    assert_eq!((code, out.as_str()), (4, ""));
    assert!(error.contains(id), "{error}");
    let handler = "web/get-users-id-00000000";
    for args in
        [&["show", handler][..], &["keep", handler, "5"], &["remove", handler], &["rename", handler, "web/x-00000001"]]
    {
        let (code, out, error) = run(&[&["-s", &store, "handlers"][..], args].concat());
        assert_eq!((code, out.as_str()), (4, ""), "{args:?}: {error}");
        assert!(error.contains(handler), "{error}");
    }
    assert!(!folder.path().join("farm/handlers").exists(), "nothing was written down");
}

#[test]
fn an_empty_store_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().display().to_string();
    let json = |args: &[&str]| -> serde_json::Value {
        let (code, out, error) = run(&[&["-s", &store][..], args, &["-o", "json"]].concat());
        assert_eq!(code, 0, "{args:?}: {error}");
        serde_json::from_str(&out).unwrap()
    };
    assert_eq!(json(&["handlers"]), serde_json::json!([]));
    assert_eq!(json(&["not-found"]), serde_json::json!([]));
    assert_eq!(json(&["check"])["spans"], 0);
    assert_eq!(json(&["run", "--once"])["objects"], 0);
    assert_eq!(json(&["settings"])["version"], 1, "a worker writes the settings down");
    assert_eq!(json(&["check"])["violations"], serde_json::json!([]));
}

#[test]
fn environment_and_file_stand_behind_the_flags() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("farm.toml"), format!("store = '{}'\n[settings]\nshards = 3\n", path("file"))).unwrap();
    let ran = |args: &[&str], env: &[(&str, String)]| {
        let mut command = tracefarm(args);
        command.env("TRACEFARM_CONFIG", path("farm.toml")).envs(env.iter().map(|(name, value)| (name, value)));
        command.output().unwrap().status.code().unwrap()
    };
    assert_eq!(ran(&["run", "--once"], &[]), 0);
    assert_eq!(ran(&["run"], &[("TRACEFARM_STORE", path("environment")), ("TRACEFARM_ONCE", "yes".to_owned())]), 0);
    assert_eq!(ran(&["run", "--once", "-s", &path("flag")], &[("TRACEFARM_STORE", path("other"))]), 0);
    for name in ["file", "environment", "flag"] {
        let (_, settings, _) = run(&["-s", &path(name), "settings", "-o", "json"]);
        let settings: serde_json::Value = serde_json::from_str(&settings).unwrap();
        let shards = settings["settings"].as_array().unwrap().iter().find(|row| row["key"] == "shards").unwrap();
        assert_eq!(shards["value"], "3", "{name}");
    }
    assert!(!folder.path().join("other").exists());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = tracefarm(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The script is longer than a pipe holds, and nobody reads it.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
}

#[test]
fn logs_elsewhere_than_on_a_terminal_are_json() {
    let folder = tempfile::tempdir().unwrap();
    // A folder where a file must be: the store cannot be used.
    std::fs::create_dir_all(folder.path().join("farm")).unwrap();
    std::fs::write(folder.path().join("farm/settings"), "in the way").unwrap();
    let store = folder.path().display().to_string();
    let (code, _, error) = run(&["-s", &store, "run", "--once"]);
    assert_eq!(code, 1, "{error}");
    let last = error.lines().last().unwrap();
    let record: serde_json::Value = serde_json::from_str(last).unwrap_or_else(|why| panic!("{why}: {error}"));
    assert_eq!(record["severity"], "ERROR");
    assert!(record["message"].as_str().unwrap().contains("settings"), "{record}");
}

#[test]
fn bucket_rules_are_printed_alone() {
    let (code, out, advice) = run(&["lifecycle", "s3", "--keep-for", "7d"]);
    let rules: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &rules["Rules"][0]["Expiration"]["Days"]), (0, &21.into()));
    assert!(advice.contains("put-bucket-lifecycle-configuration"));
}

#[test]
fn a_dry_run_writes_nothing_not_even_the_settings_of_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let (config, store) = (folder.path().join("farm.toml"), folder.path().join("store"));
    std::fs::write(&config, "[settings]\nshards = 4\n").unwrap();
    std::fs::create_dir(&store).unwrap();
    let (config, url) = (config.display().to_string(), store.display().to_string());
    let (code, _, error) = run(&["--config", &config, "--store", &url, "run", "--dry-run"]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(std::fs::read_dir(&store).unwrap().count(), 0);
}
