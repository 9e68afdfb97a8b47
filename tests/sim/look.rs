//! Looks into a bucket without the library's eyes: paths are split, blocks read by plain Parquet, pins as JSON. What a
//! later version of tracefarm must still find there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{TimestampMillisecondType, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tracefarm::store::fault::Stored;
use xxhash_rust::xxh3::xxh3_64;

use super::spans::TAG;

/// A block, read whole.
#[derive(Clone, Debug)]
pub struct Block {
    /// `spans` or `entries`.
    pub table: String,
    /// `all`, or `003-of-016`.
    pub shard: String,
    /// `2026-11-22T14`.
    pub hour: String,
    pub name: String,
    pub merged_from: Vec<String>,
    pub shards: Vec<String>,
    pub rows: Vec<Row>,
}

/// A row of either table; entries have no tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub tag: u64,
    pub trace: [u8; 16],
    pub span: [u8; 8],
    pub handler: String,
    pub start_ns: i64,
    pub received_ms: i64,
}

/// A pin.
#[derive(Clone, Debug)]
pub struct Pin {
    pub handler: String,
    pub trace: String,
    pub tags: BTreeSet<u64>,
}

/// What is in a bucket at one moment.
#[derive(Default)]
pub struct Sight {
    pub blocks: Vec<Arc<Block>>,
    pub pins: Vec<Arc<Pin>>,
    /// Blocks and pins that cannot be read.
    pub damaged: Vec<String>,
    pub others: BTreeMap<String, Stored>,
}

/// Reads buckets and keeps what never changes.
#[derive(Default)]
pub struct Eyes {
    /// By path and etag.
    blocks: HashMap<(String, String), Result<Arc<Block>, String>>,
    pins: HashMap<(String, String), Result<Arc<Pin>, String>>,
}

impl Eyes {
    /// Everything in `objects`.
    pub fn look(&mut self, objects: &BTreeMap<String, Stored>) -> Sight {
        let mut sight = Sight::default();
        for (path, stored) in objects {
            let folder = path.split('/').next().unwrap();
            match folder {
                "spans" | "entries" => {
                    let read = self.blocks.entry((path.clone(), stored.etag.clone()));
                    match read.or_insert_with(|| block(path, &stored.body).map(Arc::new)) {
                        Ok(block) => sight.blocks.push(block.clone()),
                        Err(error) => sight.damaged.push(format!("{path}: {error}")),
                    }
                }
                "latest" => {
                    let read = self.pins.entry((path.clone(), stored.etag.clone()));
                    match read.or_insert_with(|| pin(path, &stored.body).map(Arc::new)) {
                        Ok(pin) => sight.pins.push(pin.clone()),
                        Err(error) => sight.damaged.push(format!("{path}: {error}")),
                    }
                }
                _ => {
                    sight.others.insert(path.clone(), stored.clone());
                }
            }
        }
        sight
    }
}

impl Sight {
    /// The rows of `table` that count: those of blocks that no output of their own shard replaces.
    pub fn visible(&self, table: &str) -> impl Iterator<Item = (&Block, &Row)> {
        let mut hidden: HashMap<(&str, &str), BTreeSet<&str>> = HashMap::new();
        let of_table = || self.blocks.iter().filter(move |block| block.table == table);
        for block in of_table().filter(|block| block.shard != "all") {
            let names = hidden.entry((&block.hour, &block.shard)).or_default();
            names.extend(block.merged_from.iter().map(String::as_str));
        }
        of_table().flat_map(|block| block.rows.iter().map(move |row| (block.as_ref(), row))).filter(
            move |(block, row)| {
                let shard = block.shard_of(row);
                !hidden
                    .get(&(block.hour.as_str(), shard.as_str()))
                    .is_some_and(|names| names.contains(block.name.as_str()))
            },
        )
    }

    /// The blocks that an output of each of their shards replaces.
    pub fn hidden(&self) -> Vec<&Block> {
        let replaced = |block: &Block, shard: &str| {
            self.blocks.iter().any(|other| {
                (&other.table, &other.hour, other.shard.as_str()) == (&block.table, &block.hour, shard)
                    && other.merged_from.contains(&block.name)
            })
        };
        let all = self.blocks.iter().map(Arc::as_ref);
        all.filter(|block| block.shards.iter().all(|shard| replaced(block, shard))).collect()
    }
}

impl Block {
    /// The shard of a row: in level 0 by the hash that is part of the format, of as many shards as the footer says.
    fn shard_of(&self, row: &Row) -> String {
        if self.shard != "all" {
            return self.shard.clone();
        }
        let count: u64 = self.shards[0].rsplit('-').next().unwrap().parse().unwrap();
        let hash = if self.table == "spans" { xxh3_64(&row.trace) } else { xxh3_64(row.handler.as_bytes()) };
        format!("{:03}-of-{count:03}", hash % count)
    }
}

fn block(path: &str, body: &Bytes) -> Result<Block, String> {
    let parts: Vec<&str> = path.split('/').collect();
    let [table, shard, hour, file] = parts.as_slice() else { return Err("no block's path".to_owned()) };
    let reader = ParquetRecordBatchReaderBuilder::try_new(body.clone()).map_err(|error| error.to_string())?;
    let mut words = reader.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default().into_iter();
    let words = words.find(|entry| entry.key == "tracefarm").and_then(|entry| entry.value).ok_or("no words")?;
    let words: serde_json::Value = serde_json::from_str(&words).map_err(|error| error.to_string())?;
    let batches = reader.build().map_err(|error| error.to_string())?.collect::<Result<Vec<_>, _>>();
    let rows = batches.map_err(|error| error.to_string())?.iter().flat_map(|batch| rows(table, batch)).collect();
    let names = words["merged_from"].as_array().cloned().unwrap_or_default();
    Ok(Block {
        table: (*table).to_owned(),
        shard: shard.strip_prefix("shard=").ok_or("no shard")?.to_owned(),
        hour: hour.strip_prefix("hour=").ok_or("no hour")?.to_owned(),
        name: file.strip_suffix(".parquet").ok_or("no name")?.to_owned(),
        merged_from: names.iter().map(|name| name.as_str().unwrap().to_owned()).collect(),
        shards: words["shards"].as_object().ok_or("no shards")?.keys().cloned().collect(),
        rows,
    })
}

/// The rows of a batch of `table`.
pub fn rows(table: &str, batch: &RecordBatch) -> Vec<Row> {
    let column = |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    let (traces, spans) = (column("trace_id").as_fixed_size_binary(), column("span_id").as_fixed_size_binary());
    let start = column("start").as_primitive::<TimestampNanosecondType>();
    let received = column("received").as_primitive::<TimestampMillisecondType>();
    let text = |name: &str| arrow::compute::cast(column(name), &arrow::datatypes::DataType::Utf8).unwrap();
    let (attributes, handlers) = match table {
        "spans" => (Some(text("attributes")), None),
        _ => (None, Some(text("handler"))),
    };
    (0..batch.num_rows())
        .map(|row| Row {
            tag: attributes.as_ref().map_or(0, |column| {
                let text = column.as_string::<i32>().value(row);
                let attributes: serde_json::Value = serde_json::from_str(text).unwrap();
                attributes[TAG].as_u64().unwrap_or_else(|| panic!("no tag in {text}"))
            }),
            trace: traces.value(row).try_into().unwrap(),
            span: spans.value(row).try_into().unwrap(),
            handler: handlers.as_ref().map(|c| c.as_string::<i32>().value(row).to_owned()).unwrap_or_default(),
            start_ns: start.value(row),
            received_ms: received.value(row),
        })
        .collect()
}

fn pin(path: &str, body: &Bytes) -> Result<Pin, String> {
    // latest/<2 hex>/<service>/<rest>/<start>-<trace id>-<hash of rows>.json.gz
    let parts: Vec<&str> = path.split('/').collect();
    let [_, _, service, rest, file] = parts.as_slice() else { return Err("no pin's path".to_owned()) };
    let name: Vec<&str> = file.strip_suffix(".json.gz").ok_or("no pin's name")?.split('-').collect();
    let mut text = String::new();
    let read = flate2::read::MultiGzDecoder::new(body.as_ref()).read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    let document: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    Ok(Pin {
        handler: format!("{service}/{rest}"),
        trace: (*name.get(1).ok_or("no trace")?).to_owned(),
        tags: tags_in_otlp(&document),
    })
}

/// The tags of all spans in an OTLP/JSON document.
pub fn tags_in_otlp(document: &serde_json::Value) -> BTreeSet<u64> {
    let each = |value: &serde_json::Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut tags = BTreeSet::new();
    for resource in each(document, "resourceSpans") {
        for scope in each(&resource, "scopeSpans") {
            for span in each(&scope, "spans") {
                let tag = each(&span, "attributes").into_iter().find(|attribute| attribute["key"] == TAG);
                let value = &tag.unwrap_or_else(|| panic!("no tag in {span}"))["value"]["intValue"];
                let number = value.as_str().map(|text| text.parse().unwrap()).or_else(|| value.as_u64());
                tags.insert(number.unwrap_or_else(|| panic!("{value} is no tag")));
            }
        }
    }
    tags
}
