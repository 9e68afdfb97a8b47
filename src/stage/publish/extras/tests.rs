//! What is due, and dying between any two calls. The command is a real process; what guards it here is a script that
//! only starts it, because these tests are not the program.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::stage::publish;
use crate::stage::testing::{At, GRACE, START, Sent, World, clean, crash_at, trace_id};
use crate::store::fault::Client;

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn extras_are_due_when_what_they_are_made_of_changed_and_go_first_when_they_may_hold_what_must_go() {
    let world = World::new();
    world.send("1", &[Sent::request(1, 1, "/a", START)]);
    world.take_in().await;
    world.publish().await;
    let part: Part = world.site("site/parts/000-of-001.json");
    let command = words("render --well");
    let bare = &part.handlers[0];
    let file = ExtraFile { name: "a.svg".to_owned(), bytes: 1, body: "b".to_owned(), etag: "e".to_owned() };
    let key = key(&bare.row.id, "a.svg").unwrap();
    let stands = Listed::of([(key.clone(), "e")]);
    let (changed, gone) = (Listed::of([(key, "f")]), Listed::default());
    let made_from = made_from(bare, &command);
    let extras = Extras { made_from, forgotten: "none".to_owned(), files: vec![file], error: None };
    let line = PartRow { extras: Some(extras.clone()), ..bare.clone() };
    let failed = PartRow { extras: Some(Extras { error: Some("no".to_owned()), ..extras }), ..bare.clone() };
    let other = PartRow { traces_body: "other".to_owned(), ..line.clone() };
    let more = PartRow { inputs: "other".to_owned(), ..line.clone() };
    for (line, words, forgotten, standing, expected) in [
        (bare, &command[..], "none", &gone, Due::Make),
        (bare, &[], "none", &gone, Due::Nothing),
        (&line, &command, "none", &stands, Due::Nothing),
        // Nothing of what is to be forgotten was in it.
        (&line, &command, "one", &stands, Due::Nothing),
        (&line, &[], "none", &stands, Due::Drop),
        (&line, &words("render --better"), "none", &stands, Due::Make),
        (&line, &command, "none", &changed, Due::Remake),
        (&line, &command, "none", &gone, Due::Remake),
        (&other, &command, "none", &stands, Due::Make),
        (&other, &command, "one", &stands, Due::Remake),
        (&more, &command, "none", &stands, Due::Make),
        (&failed, &command, "none", &stands, Due::Make),
        (&failed, &command, "one", &stands, Due::Remake),
    ] {
        assert_eq!(due(line, words, forgotten, standing), expected, "{words:?} {forgotten} {standing:?}\n{line:?}");
    }
}

/// Sits down as a worker that may run the command.
async fn sit(world: &World, client: &Client, guard: &Path) -> At {
    let mut at = world.sit(client).await;
    at.desk.guard = Some(Arc::from(guard));
    at
}

/// Extras stand as the part and the summaries name them.
fn check(world: &World, count: usize) {
    let part: Part = world.site("site/parts/000-of-001.json");
    assert_eq!(part.handlers.len(), 2);
    for line in &part.handlers {
        let summary: Summary = world.site(&format!("site/handlers/{}/summary.json", line.row.id));
        assert_eq!((summary.extras, summary.extra_error), shown(&line.row.id, line.extras.as_ref()));
        assert_eq!(keys(line).count(), count, "{line:?}");
        for file in line.extras.iter().flat_map(|extras| &extras.files) {
            let stored = world.bucket.read(&Key::Site(key(&line.row.id, &file.name).unwrap()).path()).unwrap();
            assert_eq!(format!("{:016x}", xxh3_64(&stored.body)), file.body);
        }
    }
}

/// A script that may be run, in `folder`.
fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Held by tests that write programs and run them: what one forks has open for a moment what another one writes, and a
/// program that is open for writing cannot be run.
static PROGRAMS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// In place of the program, which ends everything that it began: this only begins.
const GUARD: &str = "#!/bin/sh\ncd \"$2/extra\" && shift 4 && exec \"$@\" < ../traces.json\n";

#[tokio::test(start_paused = true)]
async fn a_tombstone_that_comes_between_a_page_and_its_extras_counts_though_the_command_fails_from_then_on() {
    let _alone = PROGRAMS.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let guard = script(folder.path(), "guard", GUARD);
    let mut world = World::new();
    world.send("1", &[Sent::request(1, 1, "/a", START), Sent::request(2, 1, "/a", START)]);
    world.take_in().await;
    world.publish().await;
    world.settings.publish_command = vec!["cp".to_owned(), "../traces.json".to_owned(), "all".to_owned()];
    let at = sit(&world, &world.calm(), &guard).await;
    at.desk.store.create(&Key::Forget(trace_id(1)), "{}".into()).await.unwrap();
    tokio::time::resume();
    let shards: BTreeSet<Shard> = Shard::all(1).collect();
    clean(run(&at.desk, &at.round, &shards).await.unwrap());
    let extras = || world.bucket.paths("site/handlers/").into_iter().filter(|path| path.ends_with("/extra/all"));
    let made = world.bucket.read(&extras().next().unwrap()).unwrap();
    assert!(String::from_utf8_lossy(&made.body).contains(&trace_id(1).to_string()), "its page still shows it");
    std::fs::write(&guard, "#!/bin/sh\nexit 1\n").unwrap();
    tokio::time::pause();
    world.sleep(2).await;
    let at = sit(&world, &world.calm(), &guard).await;
    tokio::time::resume();
    let report = publish::run(&at.desk, &at.round).await.unwrap();
    assert_eq!((report.failed.len(), extras().count()), (1, 0), "{:?}", report.failed);
}

#[tokio::test(start_paused = true)]
async fn dying_between_any_two_calls_leaves_no_extra_that_is_not_named_and_names_none_that_does_not_stand() {
    let _alone = PROGRAMS.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let guard = script(folder.path(), "guard", GUARD);
    // Another name each time, so that a run that was not finished leaves something that the next does not write over.
    let render = script(folder.path(), "render", "echo fixed > fixed; echo $$ > r-$$\n");
    let mut world = World::new();
    world.send("1", &[Sent::request(1, 1, "/a", START), Sent::request(2, 1, "/b", START)]);
    world.take_in().await;
    world.publish().await;
    let command = vec!["/bin/sh".to_owned(), render.display().to_string()];
    world.settings.publish_command.clone_from(&command);
    let bare = world.bucket.objects();
    // What waits for processes cannot be told by a clock that runs ahead when nothing else happens.
    tokio::time::resume();
    let at = sit(&world, &world.calm(), &guard).await;
    clean(publish::run(&at.desk, &at.round).await.unwrap());
    check(&world, 2);
    let made = world.bucket.objects();
    // Made for the first time; made by another command; unset.
    let changed = [command.clone(), vec!["new".to_owned()]].concat();
    for (before, command, count) in [(&bare, command, 2), (&made, changed, 2), (&made, Vec::new(), 0)] {
        world.settings.publish_command = command;
        let (mut call, mut alive) = (0, false);
        while !alive {
            call += 1;
            for after in [false, true] {
                world.reset(before.clone());
                let client = world.client(crash_at(call, after));
                let ended = client.live(async {
                    let at = sit(&world, &client, &guard).await;
                    publish::run(&at.desk, &at.round).await.unwrap();
                });
                alive = ended.await.is_some();
                let at = sit(&world, &world.calm(), &guard).await;
                clean(publish::run(&at.desk, &at.round).await.unwrap());
                check(&world, count);
                tokio::time::pause();
                world.sleep(GRACE.as_secs() + 2).await;
                let at = world.desk().await;
                publish::forget(&at.desk, &BTreeSet::new(), &Fence::begin(&at.desk)).await.unwrap();
                check(&world, count);
                let part: Part = world.site("site/parts/000-of-001.json");
                let named: BTreeSet<String> =
                    part.handlers.iter().flat_map(keys).map(|key| Key::Site(key).path()).collect();
                let there = world.bucket.paths("site/handlers/").into_iter().filter(|path| path.contains("/extra/"));
                assert_eq!(there.collect::<BTreeSet<_>>(), named, "after dying at call {call}");
                tokio::time::resume();
            }
        }
        assert!(call > 8, "a round makes more calls than {call}");
    }
}
