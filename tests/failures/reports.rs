//! The same failures in both forms: lines for people, and the one record that Error Reporting groups.

use std::fs;

use serde_json::Value;

use super::front::{Reply, error};
use super::{Bucket, files, program, redacted, spans, told};

/// The records of errors, without what differs from run to run.
fn records(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let records =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|why| panic!("{why}: {line}")));
    let errors: Vec<String> = records
        .filter(|record| record["severity"] == "ERROR")
        .map(|mut record| {
            let place = &mut record["context"]["reportLocation"]["lineNumber"];
            assert!(place.is_number(), "{text}");
            *place = "[line]".into();
            record["logging.googleapis.com/sourceLocation"]["line"] = "[line]".into();
            record["serviceContext"]["version"] = "[version]".into();
            redacted(&serde_json::to_string_pretty(&record).unwrap())
        })
        .collect();
    errors.join("\n")
}

#[test]
fn a_refusal_is_one_record_with_its_causes_and_its_way() {
    let Some(bucket) = Bucket::before_s3(|asked| match asked.is("GET", "/inbox/") {
        true => error(403, "AccessDenied", "Access Denied"),
        false => None,
    }) else {
        return;
    };
    bucket.put(&["a.json"]);
    insta::assert_snapshot!(records(&json(&bucket, &["run", "--once", "--name", "w-1"])), @r#"
    {
      "@type": "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent",
      "advice": "let these credentials list, read, write and delete in the store (an inbox that is kept: list and read)",
      "attempts": 1,
      "causes": [
        {
          "at": "src/stage/index/body.rs:[line]",
          "what": "read s3://traces/[ulid]/inbox/a.json"
        },
        {
          "at": "src/stage/index/body.rs:[line]",
          "what": "403 AccessDenied: Access Denied"
        }
      ],
      "context": {
        "reportLocation": {
          "filePath": "src/stage/index/body.rs",
          "functionName": "tracefarm::farm::worker",
          "lineNumber": "[line]"
        }
      },
      "count": 1,
      "item": "inbox/a.json",
      "items": [
        "inbox/a.json"
      ],
      "logging.googleapis.com/labels": {
        "rank": "0",
        "stage": "index",
        "worker": "w-1"
      },
      "logging.googleapis.com/sourceLocation": {
        "file": "src/farm/worker.rs",
        "function": "tracefarm::farm::worker",
        "line": "[line]"
      },
      "message": "index failed: read: 403 AccessDenied: Access Denied\n  1 of 1\n  inbox/a.json\n    read s3://traces/[ulid]/inbox/a.json\n    403 AccessDenied: Access Denied\n    → let these credentials list, read, write and delete in the store (an inbox that is kept: list and read)\n    in run rank=0 worker=[name] › stage=index › item=a batch of inbox objects › object=inbox/a.json",
      "object": "s3://traces/[ulid]/inbox/a.json",
      "rank": 0,
      "request_id": "[id]",
      "serviceContext": {
        "service": "tracefarm",
        "version": "[version]"
      },
      "severity": "ERROR",
      "spans": [
        "run",
        "stage"
      ],
      "stage": "index",
      "target": "tracefarm::farm::worker",
      "time": "[time]",
      "title": "read: 403 AccessDenied: Access Denied",
      "way": [
        {
          "rank": 0,
          "span": "run",
          "worker": "w-1"
        },
        {
          "span": "stage",
          "stage": "index"
        },
        {
          "item": "a batch of inbox objects",
          "span": "item"
        },
        {
          "object": "inbox/a.json",
          "span": "object"
        }
      ],
      "worker": "w-1"
    }
    "#);
    insta::assert_snapshot!(told(&bucket.command(&["run", "--once", "--name", "w-1"]).output().unwrap()), @"
    [time] ERROR index failed (1 of 1)
      inbox/a.json
        read s3://traces/[ulid]/inbox/a.json
        403 AccessDenied: Access Denied
        → let these credentials list, read, write and delete in the store (an inbox that is kept: list and read)
        in run rank=0 worker=[name] › stage=index › item=a batch of inbox objects › object=inbox/a.json
    exit 5
    ");
}

#[test]
fn a_cut_connection_is_one_record() {
    let Some(bucket) = Bucket::before_s3(|asked| asked.is("GET", "/inbox/").then_some(Reply::Cut(100))) else { return };
    bucket.put(&["a.json"]);
    insta::assert_snapshot!(records(&json(&bucket, &["run", "--once", "--name", "w-1"])), @r#"
    {
      "@type": "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent",
      "attempts": 5,
      "causes": [
        {
          "at": "src/stage/index/body.rs:[line]",
          "what": "read s3://traces/[ulid]/inbox/a.json"
        },
        {
          "at": "src/stage/index/body.rs:[line]",
          "what": "the connection was cut: end of file before message length reached (5 attempts)"
        }
      ],
      "context": {
        "reportLocation": {
          "filePath": "src/stage/index/body.rs",
          "functionName": "tracefarm::farm::worker",
          "lineNumber": "[line]"
        }
      },
      "count": 1,
      "item": "inbox/a.json",
      "items": [
        "inbox/a.json"
      ],
      "logging.googleapis.com/labels": {
        "rank": "0",
        "stage": "index",
        "worker": "w-1"
      },
      "logging.googleapis.com/sourceLocation": {
        "file": "src/farm/worker.rs",
        "function": "tracefarm::farm::worker",
        "line": "[line]"
      },
      "message": "index failed: read: the connection was cut: end of file before message length reached\n  1 of 1\n  inbox/a.json\n    read s3://traces/[ulid]/inbox/a.json\n    the connection was cut: end of file before message length reached (5 attempts)\n    in run rank=0 worker=[name] › stage=index › item=a batch of inbox objects › object=inbox/a.json",
      "object": "s3://traces/[ulid]/inbox/a.json",
      "rank": 0,
      "request_id": "[id]",
      "serviceContext": {
        "service": "tracefarm",
        "version": "[version]"
      },
      "severity": "ERROR",
      "spans": [
        "run",
        "stage"
      ],
      "stage": "index",
      "target": "tracefarm::farm::worker",
      "time": "[time]",
      "title": "read: the connection was cut: end of file before message length reached",
      "way": [
        {
          "rank": 0,
          "span": "run",
          "worker": "w-1"
        },
        {
          "span": "stage",
          "stage": "index"
        },
        {
          "item": "a batch of inbox objects",
          "span": "item"
        },
        {
          "object": "inbox/a.json",
          "span": "object"
        }
      ],
      "worker": "w-1"
    }
    "#);
}

#[test]
fn a_time_out_is_one_record() {
    let Some(bucket) = Bucket::before_s3(|asked| asked.is("GET", "/inbox/").then_some(Reply::Hang)) else { return };
    bucket.put(&["a.json"]);
    insta::assert_snapshot!(records(&json(&bucket, &["run", "--once", "--name", "w-1"])), @r#"
    {
      "@type": "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent",
      "attempts": 5,
      "causes": [
        {
          "at": "src/stage/index/body.rs:[line]",
          "what": "read s3://traces/[ulid]/inbox/a.json"
        },
        {
          "at": "src/stage/index/body.rs:[line]",
          "what": "no answer in time: operation timed out (5 attempts)"
        }
      ],
      "context": {
        "reportLocation": {
          "filePath": "src/stage/index/body.rs",
          "functionName": "tracefarm::farm::worker",
          "lineNumber": "[line]"
        }
      },
      "count": 1,
      "item": "inbox/a.json",
      "items": [
        "inbox/a.json"
      ],
      "logging.googleapis.com/labels": {
        "rank": "0",
        "stage": "index",
        "worker": "w-1"
      },
      "logging.googleapis.com/sourceLocation": {
        "file": "src/farm/worker.rs",
        "function": "tracefarm::farm::worker",
        "line": "[line]"
      },
      "message": "index failed: read: no answer in time: operation timed out\n  1 of 1\n  inbox/a.json\n    read s3://traces/[ulid]/inbox/a.json\n    no answer in time: operation timed out (5 attempts)\n    in run rank=0 worker=[name] › stage=index › item=a batch of inbox objects › object=inbox/a.json",
      "object": "s3://traces/[ulid]/inbox/a.json",
      "rank": 0,
      "serviceContext": {
        "service": "tracefarm",
        "version": "[version]"
      },
      "severity": "ERROR",
      "spans": [
        "run",
        "stage"
      ],
      "stage": "index",
      "target": "tracefarm::farm::worker",
      "time": "[time]",
      "title": "read: no answer in time: operation timed out",
      "way": [
        {
          "rank": 0,
          "span": "run",
          "worker": "w-1"
        },
        {
          "span": "stage",
          "stage": "index"
        },
        {
          "item": "a batch of inbox objects",
          "span": "item"
        },
        {
          "object": "inbox/a.json",
          "span": "object"
        }
      ],
      "worker": "w-1"
    }
    "#);
}

/// What the program says with `--log json`.
fn json(bucket: &Bucket, args: &[&str]) -> Vec<u8> {
    bucket.command(args).env("TRACEFARM_LOG", "json").output().unwrap().stderr
}

#[test]
fn a_block_with_other_bytes_than_were_written_is_told_in_both_forms() {
    let broken = || {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        fs::create_dir_all(store.join("inbox")).unwrap();
        fs::write(store.join("inbox/a.json"), spans(1000)).unwrap();
        let run = |log: &str| {
            let mut command = program();
            command.arg("--store").arg(&store).args(["run", "--once", "--grace", "0s", "--name", "w-1"]);
            command.env("TRACEFARM_LOG", log);
            command.output().unwrap()
        };
        assert!(run("human").status.success());
        // Another object comes into the same hour, so the block is merged anew.
        let block = files(&store, "spans").pop().unwrap();
        let mut bytes = fs::read(&block).unwrap();
        bytes[200..1000].iter_mut().for_each(|byte| *byte = !*byte);
        fs::write(&block, bytes).unwrap();
        fs::write(store.join("inbox/b.json"), spans(2000)).unwrap();
        (folder, store)
    };
    let (_folder, store) = broken();
    let mut command = program();
    command.arg("--store").arg(&store).args(["run", "--once", "--grace", "0s", "--name", "w-1"]);
    insta::assert_snapshot!(told(&command.output().unwrap()), @"
    [time] ERROR compact failed (2 of 3)
      merge spans 000-of-001 [hour]
        block spans/shard=000-of-001/hour=[hour]/[ulid].parquet is damaged: bytes [range] are not those that were written
        in run rank=0 worker=[name] › stage=compact
      spans/shard=000-of-001/hour=[hour]/[ulid].parquet
        it is damaged, and left where it is: bytes [range] are not those that were written
        in run rank=0 worker=[name] › stage=compact
    [time] WARN  spans/shard=000-of-001/hour=[hour]/[ulid].parquet is skipped: marked in quarantine/blocks/  stage=compact
    exit 5
    ");
    let (_folder, store) = broken();
    let mut command = program();
    command.arg("--store").arg(&store).args(["run", "--once", "--grace", "0s", "--name", "w-1"]);
    command.env("TRACEFARM_LOG", "json");
    insta::assert_snapshot!(records(&command.output().unwrap().stderr), @r#"
    {
      "@type": "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent",
      "causes": [
        {
          "at": "src/table/scan.rs:[line]",
          "what": "block spans/shard=000-of-001/hour=[hour]/[ulid].parquet is damaged: bytes [range] are not those that were written"
        }
      ],
      "context": {
        "reportLocation": {
          "filePath": "src/table/scan.rs",
          "functionName": "tracefarm::farm::worker",
          "lineNumber": "[line]"
        }
      },
      "count": 1,
      "failures": [
        {
          "causes": [
            {
              "at": "src/table/scan.rs:[line]",
              "what": "block spans/shard=000-of-001/hour=[hour]/[ulid].parquet is damaged: bytes [range] are not those that were written"
            }
          ],
          "count": 1,
          "items": [
            "merge spans 000-of-001 [hour]"
          ],
          "title": "block … is damaged: bytes … are not those that were written",
          "way": [
            {
              "rank": 0,
              "span": "run",
              "worker": "w-1"
            },
            {
              "span": "stage",
              "stage": "compact"
            },
            {
              "item": "merge spans 000-of-001 [hour]",
              "span": "item"
            }
          ]
        },
        {
          "causes": [
            {
              "at": "src/stage/compact.rs:[line]",
              "what": "it is damaged, and left where it is: bytes [range] are not those that were written"
            }
          ],
          "count": 1,
          "items": [
            "spans/shard=000-of-001/hour=[hour]/[ulid].parquet"
          ],
          "title": "it is damaged, and left where it is: bytes … are not those that were written",
          "way": [
            {
              "rank": 0,
              "span": "run",
              "worker": "w-1"
            },
            {
              "span": "stage",
              "stage": "compact"
            }
          ]
        }
      ],
      "item": "merge spans 000-of-001 [hour]",
      "items": [
        "merge spans 000-of-001 [hour]"
      ],
      "logging.googleapis.com/labels": {
        "rank": "0",
        "stage": "compact",
        "worker": "w-1"
      },
      "logging.googleapis.com/sourceLocation": {
        "file": "src/farm/worker.rs",
        "function": "tracefarm::farm::worker",
        "line": "[line]"
      },
      "message": "compact failed: block … is damaged: bytes … are not those that were written\n  2 of 3\n  merge spans 000-of-001 [hour]\n    block spans/shard=000-of-001/hour=[hour]/[ulid].parquet is damaged: bytes [range] are not those that were written\n    in run rank=0 worker=[name] › stage=compact\n  spans/shard=000-of-001/hour=[hour]/[ulid].parquet\n    it is damaged, and left where it is: bytes [range] are not those that were written\n    in run rank=0 worker=[name] › stage=compact",
      "rank": 0,
      "serviceContext": {
        "service": "tracefarm",
        "version": "[version]"
      },
      "severity": "ERROR",
      "spans": [
        "run",
        "stage"
      ],
      "stage": "compact",
      "target": "tracefarm::farm::worker",
      "time": "[time]",
      "title": "block … is damaged: bytes … are not those that were written",
      "way": [
        {
          "rank": 0,
          "span": "run",
          "worker": "w-1"
        },
        {
          "span": "stage",
          "stage": "compact"
        },
        {
          "item": "merge spans 000-of-001 [hour]",
          "span": "item"
        }
      ],
      "worker": "w-1"
    }
    "#);
}
