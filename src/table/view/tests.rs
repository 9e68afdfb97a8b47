use super::*;
use proptest::prelude::*;
use ulid::Ulid;

const GRACE: Duration = Duration::from_secs(600);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_310_000 + second).unwrap()
}

fn name(number: u128) -> BlockId {
    BlockId::new(Ulid(number))
}

fn shard(index: u16) -> Shard {
    Shard::new(index, 2).unwrap()
}

fn block(number: u128, dir: ShardDir, shards: &[u16], replaces: &[u128], siblings: &[u128], written: i64) -> Block {
    let meta = BlockMeta {
        shards: shards.iter().map(|index| shard(*index)).collect(),
        merged_from: replaces.iter().map(|number| name(*number)).collect(),
        siblings: siblings.iter().map(|number| name(*number)).collect(),
        format: FORMAT,
        rules: 1,
        rows: 0,
        times: None,
    };
    let key = BlockKey { table: Table::Spans, dir, hour: Hour::of(at(0)), block: name(number) };
    Block { key, size_bytes: 1, modified: at(written), meta: Arc::new(meta) }
}

/// A block as indexed, with rows of `shards`.
fn level0(number: u128, shards: &[u16], written: i64) -> Block {
    block(number, ShardDir::All, shards, &[], &[], written)
}

/// The last file of a merge.
fn level1(number: u128, of: u16, replaces: &[u128], siblings: &[u128], written: i64) -> Block {
    block(number, ShardDir::One(shard(of)), &[of], replaces, siblings, written)
}

fn view(began: i64, blocks: Vec<Block>) -> View {
    View { began: at(began), blocks, damaged: Vec::new(), foreign: Vec::new(), elsewhere: HashSet::new() }
}

fn numbers(blocks: Vec<&Block>) -> Vec<u128> {
    blocks.into_iter().map(|block| block.id().to_string().parse::<Ulid>().unwrap().0).collect()
}

#[test]
fn an_output_hides_its_inputs_for_its_own_shard_only() {
    let view = view(100, vec![level0(1, &[0, 1], 0), level1(2, 0, &[1], &[], 50)]);
    assert_eq!(numbers(view.visible(shard(0))), [2]);
    assert_eq!(numbers(view.visible(shard(1))), [1]);
    let parts: Vec<_> = view.visible_parts().into_iter().map(|(shard, block)| (shard.index(), block.id())).collect();
    assert_eq!(parts, [(1, name(1)), (0, name(2))]);
}

#[test]
fn an_output_written_while_the_listing_was_taken_hides_nothing_and_a_tie_in_seconds_is_such() {
    for (written, seen) in [(99, vec![2]), (100, vec![1, 2]), (101, vec![1, 2])] {
        let view = view(100, vec![level0(1, &[0], 0), level1(2, 0, &[1], &[], written)]);
        assert_eq!(numbers(view.visible(shard(0))), seen, "written at {written}");
        assert_eq!(numbers(view.pending(shard(0))), [2], "a planner believes it at once");
    }
    // The listing began half a second after the output was written, within one second of the store's clock.
    let mut view = view(100, vec![level0(1, &[0], 0), level1(2, 0, &[1], &[], 100)]);
    view.began = at(100) + Duration::from_millis(500);
    assert_eq!(numbers(view.visible(shard(0))), [1, 2]);
}

/// Flag `l0_any_shard`: then row b1 was in no visible block.
#[test]
fn a_level_0_block_goes_only_when_each_of_its_shards_is_covered() {
    let mut view = view(2_000, vec![level0(1, &[0, 1], 0), level0(3, &[0], 0), level1(2, 0, &[1, 3], &[], 10)]);
    assert_eq!(numbers(view.deletable(at(1_000), GRACE)), [3]);
    view.blocks.push(level1(4, 1, &[1], &[], 20));
    assert_eq!(numbers(view.deletable(at(1_000), GRACE)), [1, 3]);
    assert_eq!(view.replaced_for(&view.blocks[0]), [shard(0), shard(1)]);
}

/// Flag `l0_shards_of_hour`: then the straggler was left over for ever.
#[test]
fn a_straggler_waits_for_the_shards_of_its_own_footer_only() {
    let view = view(2_000, vec![level0(5, &[0], 0), level1(6, 0, &[5], &[], 10), level1(4, 1, &[], &[], 20)]);
    assert_eq!(numbers(view.deletable(at(1_000), GRACE)), [5]);
}

#[test]
fn inputs_stand_for_the_grace_after_their_output() {
    let view = view(2_000, vec![level0(1, &[0], 0), level1(2, 0, &[1], &[], 10)]);
    assert!(view.deletable(at(609), GRACE).is_empty());
    assert_eq!(numbers(view.deletable(at(610), GRACE)), [1]);
    assert_eq!(numbers(view.deletable(at(9), Duration::ZERO)), [1], "a grace of zero: at once");
}

/// Flag `skip_empty`: without an output of the shard whose rows were all forgotten the level-0 block stayed for ever.
#[test]
fn an_empty_output_covers_its_shard() {
    let view = view(2_000, vec![level0(1, &[0, 1], 0), level1(2, 0, &[1], &[], 10), level1(3, 1, &[1], &[], 10)]);
    assert_eq!(numbers(view.deletable(at(1_000), GRACE)), [1]);
}

#[test]
fn a_block_that_names_no_shard_is_never_deleted() {
    assert!(view(2_000, vec![level0(1, &[], 0)]).deletable(at(1_000_000), GRACE).is_empty());
}

/// Flag `mf_in_all`: then the first file hid the row that the second was to hold, and the merge died between them.
#[test]
fn the_first_file_of_a_merge_replaces_nothing() {
    let view = view(2_000, vec![level0(1, &[0], 0), level1(2, 0, &[], &[], 10)]);
    assert_eq!(numbers(view.visible(shard(0))), [1, 2]);
    assert!(view.deletable(at(1_000), GRACE).is_empty());
}

/// Flag `no_run`: a last file and its siblings were merged again and again.
#[test]
fn a_last_file_and_its_siblings_are_one_run() {
    let (first, last) = (level1(2, 0, &[], &[], 10), level1(3, 0, &[1], &[2], 11));
    assert!(is_one_run(&[]));
    assert!(is_one_run(&[&last]));
    assert!(is_one_run(&[&first, &last]));
    let other = level1(4, 0, &[], &[], 12);
    assert!(!is_one_run(&[&first, &other]), "files of a merge that died");
    assert!(!is_one_run(&[&first, &last, &other]));
    assert!(!is_one_run(&[&last, &other]));
    assert!(!is_one_run(&[&level0(1, &[0], 0)]), "level 0 is always to be merged");
}

#[test]
fn files_of_one_merge_are_one_run_and_others_each_their_own() {
    let blocks = [
        level0(1, &[0], 0),
        level1(2, 0, &[], &[], 10),
        level1(3, 0, &[1], &[2], 11),
        level1(4, 0, &[], &[], 12),
        level1(6, 0, &[], &[5], 13),
    ];
    let runs = runs(&blocks.iter().collect::<Vec<_>>());
    let runs: Vec<_> = runs.into_iter().map(numbers).collect();
    assert_eq!(runs, [vec![2, 3], vec![1], vec![4], vec![6]], "5 has been merged elsewhere");
}

/// Flag `no_carry`: block 1 waits for its shard 1; when 2 goes, only 3 still says that 1 is replaced for shard 0.
#[test]
fn a_merge_carries_on_the_names_that_are_still_listed() {
    let view = view(2_000, vec![level0(1, &[0, 1], 0), level1(2, 0, &[1, 9], &[], 10), level0(5, &[0], 20)]);
    let inputs = view.pending(shard(0));
    assert_eq!(numbers(inputs.clone()), [2, 5]);
    assert_eq!(view.merged_from(&inputs), [name(1), name(2), name(5)], "9 is not listed any more");
}

#[test]
fn what_is_damaged_hides_nothing_and_stays_replaced() {
    let mut view = view(2_000, vec![level0(1, &[0], 0), level1(3, 0, &[2, 1], &[], 10)]);
    let key = view.blocks[0].key;
    view.damaged.push(Damaged {
        key: BlockKey { block: name(2), ..key },
        size_bytes: 1,
        modified: at(0),
        why: String::new(),
        marked: true,
    });
    assert_eq!(view.merged_from(&[&view.blocks[1]]), [name(1), name(2), name(3)]);
    assert_eq!(view.hours().len(), 1);
    view.damaged.clear();
    assert_eq!(view.merged_from(&[&view.blocks[1]]), [name(1), name(3)]);
    view.elsewhere.insert(name(2));
    assert_eq!(view.merged_from(&[&view.blocks[1]]), [name(1), name(2), name(3)], "others merge it, and it is there");
}

/// Block 2 was written when level 0 had been listed, and 3 made of it before level 1 was.
#[test]
fn a_merge_carries_on_names_that_are_too_new_to_be_listed() {
    let new = |seconds| BlockId::new(ulid::Ulid::from_parts(at(seconds).as_millisecond() as u64, 1));
    let began = 2_000;
    let mut run = level1(3, 0, &[], &[], began + 1);
    Arc::make_mut(&mut run.meta).merged_from = vec![new(began - 1_000), new(began - 800), new(began + 1)];
    let view = view(began, vec![run]);
    assert_eq!(view.merged_from(&[&view.blocks[0]]), [name(3), new(began - 800), new(began + 1)]);
}

/// Scenario `reader-siblings`: the reader is between two pages when a merge of two files lands, the first on the page
/// that it has, the last on the page that it takes next.
#[test]
fn a_last_file_without_its_sibling_hides_nothing_from_a_listing_that_began_before() {
    let view = view(100, vec![level0(1, &[0], 0), level1(3, 0, &[1], &[2], 101)]);
    assert_eq!(numbers(view.visible(shard(0))), [1, 3]);
}

/// Scenario `reader-siblings-chain`: the last file is merged on without its sibling before the reader gets there.
#[test]
fn a_merge_of_a_last_file_without_its_sibling_hides_nothing_either() {
    let view = view(100, vec![level0(1, &[0], 0), level1(5, 0, &[], &[], 103), level1(6, 0, &[1, 4, 3], &[5], 104)]);
    assert_eq!(numbers(view.visible(shard(0))), [1, 5, 6]);
}

#[test]
fn settled_hours_need_no_footers() {
    let key =
        |number, dir, hour| BlockKey { table: Table::Spans, dir, hour: Hour::from_number(hour), block: name(number) };
    let object = |key: BlockKey| Object { key: Key::Block(key), size_bytes: 1, modified: at(0), etag: String::new() };
    let one = |index| ShardDir::One(shard(index));
    let blocks = [
        key(1, one(0), 1),
        key(2, one(1), 1),
        key(3, one(0), 2),
        key(4, one(0), 2),
        key(5, one(1), 2),
        key(6, one(0), 3),
        key(7, ShardDir::All, 3),
    ];
    let blocks = blocks.into_iter().map(|key| (key, object(key))).collect();
    let mut listed =
        Listed { began: at(0), blocks, marked: HashSet::new(), foreign: Vec::new(), elsewhere: HashSet::new() };
    listed.drop_settled();
    let left: Vec<BlockId> = listed.blocks.iter().map(|(key, _)| key.block).collect();
    assert_eq!(left, [3, 4, 5, 6, 7].map(name));
}

// ---- The protocol of rule 2, played at random against the simplest of models: a set of rows. Workers act on old
// listings, merges write one file or two, die between them, or write long after their inputs are gone; listings take
// level 1 in two pages. (The exhaustive search of small cases is the model checker's; this one runs the very code.)

#[derive(Clone, Debug)]
enum Op {
    /// A level-0 block with one row in each of these shards (bits; 0 counts as 3).
    Index(u8),
    /// A worker lists and plans a merge of a shard, leaving out the inputs whose bits are set.
    PlanMerge {
        worker: usize,
        shard: u16,
        without: u8,
        split: bool,
    },
    /// It writes its next file, on a page of the listing.
    WriteFile {
        worker: usize,
        page: bool,
    },
    /// A whole merge without a pause, its files on these pages.
    Merge {
        shard: u16,
        split: bool,
        pages: [bool; 2],
    },
    /// A worker lists and plans a sweep.
    PlanSweep {
        worker: usize,
    },
    /// It deletes one block, unless the fence stops it.
    DeleteOne {
        worker: usize,
    },
    /// Time passes, in quarters of the grace.
    Tick(u8),
    /// A reader begins a listing with level 0; takes a page; takes the other and looks.
    ReadLevel0,
    ReadFirstPage,
    ReadLastPage,
}

fn op() -> impl Strategy<Value = Op> {
    let worker = 0..2_usize;
    prop_oneof![
        3 => (0..4_u8).prop_map(Op::Index),
        4 => (worker.clone(), 0..2_u16, any::<u8>(), any::<bool>()).prop_map(|(worker, shard, without, split)| {
            // Most merges take all of it.
            let without = if without % 3 == 0 { without } else { 0 };
            Op::PlanMerge { worker, shard, without, split }
        }),
        7 => (worker.clone(), any::<bool>()).prop_map(|(worker, page)| Op::WriteFile { worker, page }),
        4 => (0..2_u16, any::<bool>(), any::<[bool; 2]>())
            .prop_map(|(shard, split, pages)| Op::Merge { shard, split, pages }),
        3 => worker.clone().prop_map(|worker| Op::PlanSweep { worker }),
        5 => worker.prop_map(|worker| Op::DeleteOne { worker }),
        4 => (1..5_u8).prop_map(Op::Tick),
        3 => Just(Op::ReadLevel0),
        3 => Just(Op::ReadFirstPage),
        3 => Just(Op::ReadLastPage),
    ]
}

/// A row: its shard and a number.
type Row = (u16, u32);

#[derive(Clone)]
struct Stored {
    block: Block,
    rows: BTreeSet<Row>,
    second_page: bool,
}

enum Job {
    Merge { files: Vec<(BTreeSet<Row>, bool)>, shard: u16, replaces: Vec<BlockId>, written: Vec<BlockId> },
    Sweep { names: Vec<BlockId>, since: i64 },
}

#[derive(Default)]
struct Reader {
    began: i64,
    expected: BTreeSet<Row>,
    found: Vec<Stored>,
    pages: usize,
}

#[derive(Default)]
struct World {
    now: i64,
    made: u128,
    stored: Vec<Stored>,
    indexed: BTreeSet<Row>,
    jobs: [Option<Job>; 2],
    reader: Option<Reader>,
}

const QUARTER: i64 = 150;

impl World {
    fn view(&self, stored: &[Stored], began: i64) -> View {
        view(began, stored.iter().map(|stored| stored.block.clone()).collect())
    }

    fn rows_seen(view: &View, stored: &[Stored]) -> BTreeSet<Row> {
        for of in [0, 1] {
            let parts = view.visible_parts().into_iter().filter(|part| part.0 == shard(of)).map(|part| part.1);
            assert_eq!(numbers(parts.collect()), numbers(view.visible(shard(of))));
        }
        let rows_of = |(part, block): (Shard, &Block)| {
            let stored = stored.iter().find(|stored| stored.block.id() == block.id()).unwrap();
            stored.rows.iter().copied().filter(move |row| row.0 == part.index()).collect::<Vec<_>>()
        };
        view.visible_parts().into_iter().flat_map(rows_of).collect()
    }

    fn put(
        &mut self,
        dir: ShardDir,
        rows: BTreeSet<Row>,
        replaces: &[BlockId],
        siblings: &[BlockId],
        page: bool,
    ) -> BlockId {
        self.made += 1;
        let shards: BTreeSet<u16> = match dir {
            ShardDir::All => rows.iter().map(|row| row.0).collect(),
            ShardDir::One(shard) => [shard.index()].into(),
        };
        let mut block = block(self.made, dir, &shards.into_iter().collect::<Vec<_>>(), &[], &[], self.now);
        let meta = Arc::get_mut(&mut block.meta).unwrap();
        (meta.merged_from, meta.siblings) = (replaces.to_vec(), siblings.to_vec());
        let id = block.id();
        self.stored.push(Stored { block, rows, second_page: page });
        id
    }

    fn plan_merge(&self, of: u16, without: u8, split: bool) -> Option<Job> {
        let view = self.view(&self.stored, self.now);
        let mut inputs = view.pending(shard(of));
        if is_one_run(&inputs) {
            return None;
        }
        if inputs.len() > 2 {
            let mut bit = 0;
            inputs.retain(|_| {
                bit += 1;
                without & (1 << (bit % 8)) == 0
            });
        }
        let of_input =
            |input: &&Block| self.stored.iter().find(|stored| stored.block.id() == input.id()).unwrap().rows.clone();
        let rows: BTreeSet<Row> = inputs.iter().flat_map(of_input).filter(|row| row.0 == of).collect();
        let mut files = vec![(rows.clone(), true)];
        if split && rows.len() > 1 {
            let (first, last): (Vec<Row>, Vec<Row>) = rows.iter().partition(|row| row.1 % 2 == 0);
            files = vec![(first.into_iter().collect(), false), (last.into_iter().collect(), true)];
        }
        Some(Job::Merge { files, shard: of, replaces: view.merged_from(&inputs), written: Vec::new() })
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Index(bits) => {
                let bits = if bits == 0 { 3 } else { bits };
                let next = self.indexed.len() as u32;
                let rows: BTreeSet<Row> = (0..2).filter(|bit| bits & (1 << bit) != 0).map(|bit| (bit, next)).collect();
                self.indexed.extend(&rows);
                self.put(ShardDir::All, rows, &[], &[], false);
            }
            Op::PlanMerge { worker, shard, without, split } => {
                self.jobs[worker] = self.plan_merge(shard, without, split);
            }
            Op::WriteFile { worker, page } => {
                let Some(Job::Merge { mut files, shard: of, replaces, mut written }) = self.jobs[worker].take() else {
                    return;
                };
                let (rows, last) = files.remove(0);
                let dir = ShardDir::One(shard(of));
                if last {
                    self.put(dir, rows, &replaces, &written, page);
                } else {
                    written.push(self.put(dir, rows, &[], &[], page));
                    self.jobs[worker] = Some(Job::Merge { files, shard: of, replaces, written });
                }
            }
            Op::Merge { shard, split, pages } => {
                self.jobs[0] = self.plan_merge(shard, 0, split);
                for page in pages {
                    self.step(Op::WriteFile { worker: 0, page });
                }
            }
            Op::PlanSweep { worker } => {
                let view = self.view(&self.stored, self.now);
                let names = view.deletable(at(self.now), GRACE).into_iter().map(Block::id).collect();
                self.jobs[worker] = Some(Job::Sweep { names, since: self.now });
            }
            Op::DeleteOne { worker } => {
                if let Some(Job::Sweep { names, since }) = &mut self.jobs[worker]
                    && self.now - *since <= 2 * QUARTER
                    && let Some(name) = names.pop()
                {
                    self.stored.retain(|stored| stored.block.id() != name);
                }
            }
            Op::Tick(quarters) => self.now += i64::from(quarters) * QUARTER,
            Op::ReadLevel0 if self.reader.is_some() => {}
            Op::ReadLevel0 => {
                let found = self.stored.iter().filter(|stored| stored.block.is_level0()).cloned().collect();
                self.reader = Some(Reader { began: self.now, expected: self.indexed.clone(), found, pages: 0 });
            }
            Op::ReadFirstPage | Op::ReadLastPage => {
                let Some(reader) = &mut self.reader else { return };
                let last = matches!(op, Op::ReadLastPage);
                if reader.pages != usize::from(last) {
                    return;
                }
                reader.pages += 1;
                let page = self.stored.iter().filter(|stored| !stored.block.is_level0() && stored.second_page == last);
                reader.found.extend(page.cloned());
                if last {
                    let Some(reader) = self.reader.take() else { return };
                    // `View::list` begins again a listing that lasted longer.
                    if self.now - reader.began <= 2 * QUARTER {
                        let view = self.view(&reader.found, reader.began);
                        let seen = Self::rows_seen(&view, &reader.found);
                        let missed: Vec<_> = reader.expected.difference(&seen).collect();
                        assert!(missed.is_empty(), "a reader misses {missed:?} of\n{:#?}", view.blocks);
                    }
                }
            }
        }
    }

    fn check(&self) {
        let view = self.view(&self.stored, self.now);
        let seen = Self::rows_seen(&view, &self.stored);
        assert!(self.indexed == seen, "lost {:?}", self.indexed.difference(&seen).collect::<Vec<_>>());
    }

    /// One worker drains everything: then every row stands once, in one run a shard.
    fn rest(&mut self) {
        for _ in 0..4 {
            for of in [0, 1] {
                self.jobs[0] = self.plan_merge(of, 0, false);
                self.step(Op::WriteFile { worker: 0, page: false });
            }
            self.now += 4 * QUARTER;
            self.step(Op::PlanSweep { worker: 0 });
            for _ in 0..self.stored.len() {
                self.step(Op::DeleteOne { worker: 0 });
            }
            self.now += QUARTER;
            self.check();
        }
        let view = self.view(&self.stored, self.now);
        for of in [0, 1] {
            let blocks = view.visible(shard(of));
            assert!(is_one_run(&blocks), "{blocks:#?}");
        }
        let rows: Vec<Row> = self.stored.iter().flat_map(|stored| stored.rows.iter().copied()).collect();
        assert_eq!(rows.len(), self.indexed.len(), "each row once:\n{:#?}", view.blocks);
        assert!(view.blocks.iter().all(|block| !block.is_level0()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_interleaving_hides_a_row(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::default();
        for op in ops {
            world.step(op);
            world.check();
        }
        world.rest();
    }
}
