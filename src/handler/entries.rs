//! A batch of spans → its entries.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Int32Array, StringArray, StringBuilder,
    UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;
use foldhash::fast::RandomState;

use super::rules::{CONSUMER, SERVER, tell};
use super::{Kind, RULES, Rules, SpanFacts, Told};
use crate::error::{Result, ResultExt, bail, report};
use crate::otlp::typed_json;
use crate::table::entries;

/// The entries among `spans` (a batch of [`crate::table::spans::schema`]) as a batch of
/// [`crate::table::entries::schema`], in the same order. An entry is a span of kind SERVER or CONSUMER, or without a
/// parent.
///
/// Spans that differ in nothing that a rule looks at are told once.
///
/// # Errors
/// If the rules have a number that this program does not know, a column is missing, or attributes are no typed JSON: then
/// the batch is not ours.
pub fn entries(spans: &RecordBatch, rules: &Rules) -> Result<RecordBatch> {
    if rules.number > RULES {
        bail!("rules {} are newer than this program, which knows up to {RULES}: update it", rules.number);
    }
    let spans = Spans::of(spans)?;
    let rows = spans.entry_rows();
    let mut handlers = Handlers::default();
    let mut told_of = Vec::with_capacity(rows.len());
    let mut paths = StringBuilder::new();
    let mut functions = Functions::default();
    for row in rows.values() {
        let row = *row as usize;
        let facts = spans.facts(row, rules, &mut functions)?;
        let number = handlers.number(&facts);
        told_of.push(number);
        match handlers.told[number].path {
            Some(_) => paths.append_option(facts.path()),
            None => paths.append_null(),
        }
    }
    let chosen = |name: &str| -> Result<ArrayRef> {
        let column = spans.batch.column_by_name(name).ok_or_else(|| report!("spans without the column {name}"))?;
        Ok(take(column, &rows, None).context_with(|| format!("take the entries' {name}"))?)
    };
    let mut paths: Option<ArrayRef> = Some(Arc::new(paths.finish()));
    let schema = entries::schema();
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| match field.name().as_str() {
            "handler" => Ok(handlers.column(&told_of, |told| Some(told.id.as_str()))),
            "handler_kind" => Ok(handlers.column(&told_of, |told| Some(told.kind))),
            "handler_name" => Ok(handlers.column(&told_of, |told| Some(&told.name))),
            "method" => Ok(handlers.column(&told_of, |told| told.method.as_deref())),
            "route" => Ok(handlers.column(&told_of, |told| told.route.as_deref())),
            "path" => paths.take().ok_or_else(|| report!("the entries' schema has two paths")),
            "is_root" => {
                let roots: BooleanArray = rows.values().iter().map(|row| Some(spans.is_root(*row as usize))).collect();
                Ok(Arc::new(roots) as ArrayRef)
            }
            "span_name" => chosen("name"),
            name => chosen(name),
        })
        .collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(schema, columns).context("put the entries together")?)
}

/// The entries among `spans`: the row of each, what it hit and by which rule. As [`entries()`] tells them, but slower.
///
/// # Errors
/// As those of [`entries()`].
pub fn explain(spans: &RecordBatch, rules: &Rules) -> Result<Vec<(usize, Told)>> {
    let spans = Spans::of(spans)?;
    let mut functions = Functions::default();
    let rows = spans.entry_rows();
    let rows = rows.values().iter().map(|row| *row as usize);
    rows.map(|row| Ok((row, tell(&spans.facts(row, rules, &mut functions)?)))).collect()
}

type Dictionary = DictionaryArray<Int32Type>;

/// The columns of the `spans` table that tell handlers.
struct Spans<'a> {
    batch: &'a RecordBatch,
    namespace: Texts<'a>,
    service: Texts<'a>,
    name: Texts<'a>,
    resource: Texts<'a>,
    kind: &'a Int32Array,
    status: &'a Int32Array,
    parent: &'a FixedSizeBinaryArray,
    attributes: &'a StringArray,
}

impl<'a> Spans<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self> {
        Ok(Self {
            batch,
            namespace: Texts::of(batch, "service_namespace")?,
            service: Texts::of(batch, "service")?,
            name: Texts::of(batch, "name")?,
            resource: Texts::of(batch, "resource")?,
            kind: column(batch, "kind")?,
            status: column(batch, "http_status")?,
            parent: column(batch, "parent_span_id")?,
            attributes: column(batch, "attributes")?,
        })
    }

    fn kind(&self, row: usize) -> i32 {
        if self.kind.is_valid(row) { self.kind.value(row) } else { 0 }
    }

    /// A parent of zeros is none, as the protocol has it.
    fn is_root(&self, row: usize) -> bool {
        self.parent.is_null(row) || self.parent.value(row) == [0; 8]
    }

    fn entry_rows(&self) -> UInt32Array {
        let is_entry = |row: &usize| matches!(self.kind(*row), SERVER | CONSUMER) || self.is_root(*row);
        // A batch has fewer than 2^32 rows: Arrow's dictionaries have keys of 31 bits.
        (0..self.batch.num_rows()).filter(is_entry).map(|row| row as u32).collect::<Vec<_>>().into()
    }

    fn facts<'s>(&'s self, row: usize, rules: &Rules, functions: &'s mut Functions) -> Result<SpanFacts<'s>>
    where
        'a: 's,
    {
        let mut facts = SpanFacts {
            namespace: self.namespace.at(row).unwrap_or_default(),
            service: self.service.at(row).unwrap_or_default(),
            name: self.name.at(row).unwrap_or_default(),
            kind: self.kind(row),
            is_root: self.is_root(row),
            http_status: self.status.is_valid(row).then(|| self.status.value(row)),
            ..SpanFacts::default()
        };
        if self.attributes.is_valid(row) {
            let custom = rules.handler_attribute.as_str();
            typed_json::visit(self.attributes.value(row), |key, value| facts.attribute(key, value, custom))
                .context_with(|| format!("read the attributes in row {row}"))?;
        }
        facts.resource_faas_name = functions.name(&self.resource, row)?;
        Ok(facts)
    }
}

/// `faas.name` of each resource, looked for once.
#[derive(Default)]
struct Functions(HashMap<usize, Option<String>>);

impl Functions {
    fn name(&mut self, resources: &Texts<'_>, row: usize) -> Result<Option<&str>> {
        let Some(key) = resources.dictionary.key(row) else { return Ok(None) };
        let name = match self.0.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let mut found = None;
                typed_json::visit(resources.values.value(key), |name, value| {
                    if name == "faas.name" && found.is_none() {
                        found = value.as_str().map(Cow::into_owned);
                    }
                })
                .context_with(|| format!("read the resource in row {row}"))?;
                place.insert(found)
            }
        };
        Ok(name.as_deref())
    }
}

/// A column of strings that repeat.
struct Texts<'a> {
    dictionary: &'a Dictionary,
    values: &'a StringArray,
}

impl<'a> Texts<'a> {
    fn of(batch: &'a RecordBatch, name: &str) -> Result<Self> {
        let dictionary: &Dictionary = column(batch, name)?;
        let values = dictionary.values().as_any().downcast_ref();
        Ok(Self { dictionary, values: values.ok_or_else(|| report!("spans whose column {name} holds no strings"))? })
    }

    fn at(&self, row: usize) -> Option<&'a str> {
        self.dictionary.key(row).map(|key| self.values.value(key))
    }
}

fn column<'a, A: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a A> {
    let column = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref());
    column.ok_or_else(|| report!("spans without the column {name}, or of another type"))
}

/// The handlers of a batch: each told once.
#[derive(Default)]
struct Handlers {
    told: Vec<Told>,
    by_identity: HashMap<Box<[u8]>, usize, RandomState>,
    identity: Vec<u8>,
}

impl Handlers {
    /// Which of the handlers told a span hit.
    fn number(&mut self, facts: &SpanFacts<'_>) -> usize {
        facts.identity(&mut self.identity);
        if let Some(number) = self.by_identity.get(self.identity.as_slice()) {
            return *number;
        }
        let mut told = tell(facts);
        // Whether such spans have one; what it is, each says for itself.
        let is_request = facts.is_http_server() || told.kind == Kind::NotFound.as_str();
        told.path = (is_request && told.route.is_none()).then(String::new);
        self.told.push(told);
        self.by_identity.insert(self.identity.as_slice().into(), self.told.len() - 1);
        self.told.len() - 1
    }

    /// A column of what `text` says of each handler; equal texts share one value.
    fn column(&self, told_of: &[usize], text: impl Fn(&Told) -> Option<&str>) -> ArrayRef {
        let mut values: Vec<&str> = Vec::new();
        let mut known: HashMap<&str, i32, RandomState> = HashMap::default();
        let keys: Vec<Option<i32>> = self
            .told
            .iter()
            .map(|told| {
                let text = text(told)?;
                Some(*known.entry(text).or_insert_with(|| {
                    values.push(text);
                    // A batch has fewer than 2^31 rows, and so handlers.
                    values.len() as i32 - 1
                }))
            })
            .collect();
        let keys: Int32Array = told_of.iter().map(|number| keys[*number]).collect();
        #[expect(clippy::expect_used, reason = "every key is the place of a value")]
        let column =
            Dictionary::try_new(keys, Arc::new(StringArray::from(values))).expect("keys lie within the values");
        Arc::new(column)
    }
}
