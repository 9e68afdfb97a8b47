use proptest::prelude::*;

use super::*;

const BLOCK: &str = "01KA8Z3V5Y7N0M2B4C6D8F0G1H";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn block() -> BlockId {
    BLOCK.parse().unwrap()
}

#[test]
fn every_kind_of_key_reads_as_documented() {
    let boot = BootId::new(Ulid::from_string(BLOCK).unwrap());
    let trace: TraceId = TRACE.parse().unwrap();
    let hour: Hour = "2026-11-22T14".parse().unwrap();
    let handler: HandlerId = "web/get-products-id-5b1f0c3a".parse().unwrap();
    let shard = Shard::new(3, 16).unwrap();
    let keys = [
        Key::Inbox("year=2026/traces_1.json.gz".to_owned()),
        Key::Block(BlockKey { table: Table::Spans, dir: ShardDir::All, hour, block: block() }),
        Key::Block(BlockKey { table: Table::Entries, dir: ShardDir::One(shard), hour, block: block() }),
        Key::Pin(PinKey { handler: handler.clone(), start_ns: 1_795_357_800_123_456_789, trace, rows: 0xabc }),
        Key::Site(SiteKey::Index),
        Key::Site(SiteKey::Asset(0xabc, "trace/tree.js".to_owned())),
        Key::Site(SiteKey::Farm),
        Key::Site(SiteKey::Handlers),
        Key::Site(SiteKey::Part(shard)),
        Key::Site(SiteKey::Summary(handler.clone())),
        Key::Site(SiteKey::Traces(handler.clone())),
        Key::Site(SiteKey::Extra(handler, ExtraName::new("img/ü \u{202e}?.svg").unwrap())),
        Key::Site(SiteKey::Trace(trace)),
        Key::Site(SiteKey::NotFound("web".to_owned())),
        Key::Quarantine(QuarantineKey::new("truncated", "a/b c.json", "\"ab-1\"")),
        Key::QuarantineError(QuarantineKey::new("truncated", "a/b c.json", "\"ab-1\"")),
        Key::BadBlock(block()),
        Key::Settings(7),
        Key::Catalogue(42),
        Key::Heartbeat("farm-7x2k".parse().unwrap(), boot),
        Key::Strike(0xdead_beef, boot),
        Key::Forget(trace),
        Key::Pinned(hour, ShardDir::One(shard)),
        Key::Pinned(hour, ShardDir::All),
        Key::Ledger("2026-11-22".parse().unwrap(), Ulid::from_string(BLOCK).unwrap()),
    ];
    let paths: Vec<_> = keys.iter().map(Key::path).collect();
    insta::assert_snapshot!(paths.join("\n"), @r"
    inbox/year=2026/traces_1.json.gz
    spans/shard=all/hour=2026-11-22T14/01KA8Z3V5Y7N0M2B4C6D8F0G1H.parquet
    entries/shard=003-of-016/hour=2026-11-22T14/01KA8Z3V5Y7N0M2B4C6D8F0G1H.parquet
    latest/31/web/get-products-id-5b1f0c3a/01795357800123456789-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000abc.json.gz
    site/index.html
    site/assets/0000000000000abc/trace/tree.js
    site/farm.json
    site/handlers.json
    site/parts/003-of-016.json
    site/handlers/web/get-products-id-5b1f0c3a/summary.json
    site/handlers/web/get-products-id-5b1f0c3a/traces.json.gz
    site/handlers/web/get-products-id-5b1f0c3a/extra/img/%C3%BC%20%E2%80%AE%3F.svg
    site/traces/4bf92f3577b34da6a3ce929d0e0e4736.json.gz
    site/not-found/web.json
    quarantine/truncated/a/b%20c.json@%22ab-1%22
    quarantine/truncated/a/b%20c.json@%22ab-1%22.error.json
    quarantine/blocks/01KA8Z3V5Y7N0M2B4C6D8F0G1H.error.json
    farm/settings/0000000007.json
    farm/handlers/0000000042.json
    farm/workers/farm-7x2k.01KA8Z3V5Y7N0M2B4C6D8F0G1H.json
    farm/strikes/00000000deadbeef/01KA8Z3V5Y7N0M2B4C6D8F0G1H
    farm/forget/4bf92f3577b34da6a3ce929d0e0e4736
    farm/pinned/2026-11-22T14/003-of-016.json
    farm/pinned/2026-11-22T14/all.json
    farm/ledger/2026-11-22/01KA8Z3V5Y7N0M2B4C6D8F0G1H.json
    ");
    for (key, path) in keys.iter().zip(&paths) {
        assert_eq!(Key::parse(path).as_ref(), Some(key), "{path}");
    }
}

#[test]
fn a_name_that_is_not_ours_is_no_key() {
    for foreign in [
        "",
        "inbox",
        "inbox/",
        "inbox/folder/",
        "readme.txt",
        "spans/x.parquet",
        "spans/shard=all/hour=2026-11-22T14/x.parquet",
        "spans/shard=all/hour=2026-11-22T14/01KA8Z3V5Y7N0M2B4C6D8F0G1H.parquet#1",
        "spans/shard=all/hour=2026-11-22T14/01ka8z3v5y7n0m2b4c6d8f0g1h.parquet",
        "spans/shard=3-of-16/hour=2026-11-22T14/01KA8Z3V5Y7N0M2B4C6D8F0G1H.parquet",
        "latest/00/web/get-products-id-5b1f0c3a/1-2-3.json.gz",
        "site/other.html",
        "site/assets/abc/main.js",
        "site/assets/0000000000000abc/",
        "site/assets/0000000000000abc/../main.js",
        "site/assets/0000000000000abc/a b.js",
        "site/not-found/../x.json",
        "site/handlers/web/get-products-id-5b1f0c3a/other.json",
        "site/handlers/web/get-products-id-5b1f0c3a/extra/",
        "site/handlers/web/get-products-id-5b1f0c3a/extra/../summary.json",
        "site/handlers/web/get-products-id-5b1f0c3a/extra/%2E%2E",
        "site/handlers/web/get-products-id-5b1f0c3a/extra/a b",
        "site/handlers/web/extra/a",
        "quarantine/truncated/a",
        "quarantine/truncated/a%41@e",
        "quarantine/truncated/a//b@e",
        "quarantine/blocks/x.error.json",
        "farm/settings/7.json",
        "farm/settings/+000000007.json",
        "farm/strikes/deadbeef/01KA8Z3V5Y7N0M2B4C6D8F0G1H",
        "farm/forget/4BF92f3577b34da6a3ce929d0e0e4736",
        "farm/ledger/2026-1-2/01KA8Z3V5Y7N0M2B4C6D8F0G1H.json",
    ] {
        assert_eq!(Key::parse(foreign), None, "{foreign}");
    }
}

#[test]
fn every_prefix_is_one_of_the_keys_below_it() {
    let handler: HandlerId = "web/get-products-id-5b1f0c3a".parse().unwrap();
    let pin = PinKey { handler: handler.clone(), start_ns: 1, trace: TRACE.parse().unwrap(), rows: 1 };
    assert!(Key::Pin(pin).path().starts_with(&Prefix::Pins(handler).path()));
    let hour: Hour = "2026-11-22T14".parse().unwrap();
    let key = BlockKey { table: Table::Spans, dir: ShardDir::All, hour, block: block() };
    for prefix in
        [Prefix::Table(key.table), Prefix::Shard(key.table, key.dir), Prefix::Hour(key.table, key.dir, key.hour)]
    {
        assert!(Key::Block(key).path().starts_with(&prefix.path()));
    }
    assert!(Key::BadBlock(block()).path().starts_with(&Prefix::BadBlocks.path()));
}

#[test]
fn a_name_too_long_for_a_store_is_cut_and_still_told_from_others() {
    let long = format!("{}/x", "ä".repeat(300));
    let (a, b) = (QuarantineKey::new("bad", &long, "e"), QuarantineKey::new("bad", &format!("{long}y"), "e"));
    assert_ne!(a, b);
    assert!(Key::QuarantineError(a.clone()).path().len() < 1024);
    assert!(Key::QuarantineError(a.clone()).path().split('/').all(|part| part.len() <= 255));
    assert_eq!(Key::parse(&Key::Quarantine(a.clone()).path()), Some(Key::Quarantine(a)));
}

/// Names as people, machines and attackers make them.
fn odd_name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[a-z0-9=_.-]{1,12}",
        Just(String::new()),
        Just(".".to_owned()),
        Just("..".to_owned()),
        "\\PC{0,8}",
        any::<String>().prop_map(|text| text.chars().take(8).collect()),
        "[%@#\\\\ ~\u{202e}\n]{1,4}",
        Just("x@y.error.json".to_owned()),
    ];
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

proptest! {
    #[test]
    fn any_inbox_key_comes_back(name in odd_name()) {
        let key = Key::Inbox(name.clone());
        let ours = !name.is_empty() && !name.ends_with('/');
        prop_assert_eq!(Key::parse(&key.path()), ours.then_some(key));
    }

    #[test]
    fn any_inbox_key_can_be_quarantined(name in odd_name(), etag in "\\PC{0,40}", long in 0_usize..400) {
        let name = format!("{name}{}", "x".repeat(long));
        let key = QuarantineKey::new("bad", &name, &etag);
        for key in [Key::Quarantine(key.clone()), Key::QuarantineError(key)] {
            let path = key.path();
            prop_assert_eq!(Key::parse(&path), Some(key));
            prop_assert!(path.len() < 900, "{} bytes", path.len());
            prop_assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255));
            prop_assert!(path.bytes().all(|b| b.is_ascii_graphic()));
        }
    }

    #[test]
    fn an_extra_stands_under_any_relative_name_and_under_no_other(name in odd_name(), long in 0_usize..300) {
        let name = format!("{name}{}", "ü".repeat(long));
        let plain = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if let Ok(extra) = ExtraName::new(&name) {
            prop_assert!(plain && extra.as_str() == name);
            let handler: HandlerId = format!("{}/{}-5b1f0c3a", "s".repeat(200), "x".repeat(191)).parse().unwrap();
            let key = Key::Site(SiteKey::Extra(handler, extra));
            let path = key.path();
            prop_assert_eq!(Key::parse(&path), Some(key));
            prop_assert!(path.len() < 1024 && path.bytes().all(|b| b.is_ascii_graphic()));
        } else {
            prop_assert!(!plain || name.len() > 66, "{}", name);
        }
    }

    #[test]
    fn whatever_parses_prints_the_same(path in "(inbox|spans|entries|latest|site|quarantine|farm)/\\PC{0,60}") {
        if let Some(key) = Key::parse(&path) {
            prop_assert_eq!(key.path(), path);
        }
    }
}
