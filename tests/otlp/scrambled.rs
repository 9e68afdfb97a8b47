//! The same OTLP written in other ways that are allowed: other orders, pieces, spellings.

use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::oracle::Json;

/// Fields of a message that are messages: their number, their shape, whether there is only one.
struct Shape(&'static [(u32, &'static Shape, bool)]);

static TRACES_DATA: Shape = Shape(&[(1, &RESOURCE_SPANS, false)]);
static RESOURCE_SPANS: Shape = Shape(&[(1, &RESOURCE, true), (2, &SCOPE_SPANS, false)]);
static RESOURCE: Shape = Shape(&[(1, &PAIR, false), (3, &LEAF, false)]);
static SCOPE_SPANS: Shape = Shape(&[(1, &SCOPE, true), (2, &SPAN, false)]);
static SCOPE: Shape = Shape(&[(3, &PAIR, false)]);
static SPAN: Shape = Shape(&[(9, &PAIR, false), (11, &EVENT, false), (13, &LINK, false), (15, &LEAF, true)]);
static EVENT: Shape = Shape(&[(3, &PAIR, false)]);
static LINK: Shape = Shape(&[(4, &PAIR, false)]);
static PAIR: Shape = Shape(&[(2, &VALUE, true)]);
static VALUE: Shape = Shape(&[(5, &ARRAY, true), (6, &LIST, true)]);
static ARRAY: Shape = Shape(&[(1, &VALUE, false)]);
static LIST: Shape = Shape(&[(1, &PAIR, false)]);
static LEAF: Shape = Shape(&[]);

/// Protobuf with its fields in another order, single messages in pieces, fields given twice, lengths longer than they
/// have to be, and unknown fields.
pub fn protobuf(data: &TracesData, seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let object = message(&data.encode_to_vec(), &TRACES_DATA, &mut random, true);
    // An object begins with field 1, by which it is known.
    if object.first() == Some(&0x0a) { object } else { [&[0x0a, 0][..], &object].concat() }
}

fn message(bytes: &[u8], shape: &Shape, random: &mut StdRng, is_top: bool) -> Vec<u8> {
    let mut fields = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let before = rest;
        let (number, wire) = prost::encoding::decode_key(&mut rest).unwrap();
        if wire != WireType::LengthDelimited {
            prost::encoding::skip_field(wire, number, &mut rest, Default::default()).unwrap();
            let field = before[..before.len() - rest.len()].to_vec();
            // A number given twice: the last counts.
            if random.random_bool(0.1) {
                let mut other = field.clone();
                let last = other.len() - 1;
                other[last] ^= 1;
                fields.push((number, other));
            }
            fields.push((number, field));
            continue;
        }
        let length = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        let (payload, behind) = rest.split_at(length);
        rest = behind;
        match shape.0.iter().find(|field| field.0 == number) {
            None => fields.push((number, delimited(number, payload, random))),
            Some((_, shape, is_single)) => {
                let payload = message(payload, shape, random, false);
                let pieces =
                    if *is_single && random.random_bool(0.3) { split(&payload, random) } else { vec![payload] };
                for piece in pieces {
                    fields.push((number, delimited(number, &piece, random)));
                }
            }
        }
    }
    if random.random_bool(0.2) {
        let mut unknown = Vec::new();
        encode_key(777, WireType::Varint, &mut unknown);
        encode_varint(random.random(), &mut unknown);
        fields.push((777, unknown));
        fields.push((778, delimited(778, b"\xff\x00unknown", random)));
    }
    // Any order, but for fields of the same number: a stable sort by a random rank of the number.
    let mut ranks: Vec<u32> = (0..1000).collect();
    if !is_top {
        ranks.shuffle(random);
    }
    fields.sort_by_key(|(number, _)| ranks[*number as usize]);
    fields.into_iter().flat_map(|(_, field)| field).collect()
}

fn delimited(number: u32, payload: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut field = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut field);
    encode_varint(payload.len() as u64, &mut field);
    if random.random_bool(0.1) {
        // Not canonical: three bytes more than needed.
        let last = field.len() - 1;
        field[last] |= 0x80;
        field.extend_from_slice(&[0x80, 0x80, 0]);
    }
    field.extend_from_slice(payload);
    field
}

/// The fields of a message as two messages, which are merged again.
fn split(message: &[u8], random: &mut StdRng) -> Vec<Vec<u8>> {
    let mut ends = vec![0];
    let mut rest = message;
    while !rest.is_empty() {
        let (number, wire) = prost::encoding::decode_key(&mut rest).unwrap();
        prost::encoding::skip_field(wire, number, &mut rest, Default::default()).unwrap();
        ends.push(message.len() - rest.len());
    }
    let at = ends[random.random_range(0..ends.len())];
    vec![message[..at].to_vec(), message[at..].to_vec()]
}

/// JSON with its fields in another order, other spellings of names and numbers, white space and unknown fields.
pub fn json(json: &Json, seed: u64) -> String {
    let mut out = String::new();
    let mut random = StdRng::seed_from_u64(seed);
    write(json, "", &mut random, &mut out);
    out
}

fn write(json: &Json, name: &str, random: &mut StdRng, out: &mut String) {
    let is_text = matches!(name, "stringValue" | "name" | "key" | "message" | "version" | "traceState" | "schemaUrl");
    match json {
        Json::Null => out.push_str("null"),
        Json::Bool(value) => out.push_str(&value.to_string()),
        Json::Number(number) if random.random_bool(0.2) => out.push_str(&format!("\"{number}\"")),
        Json::Number(number) => out.push_str(number),
        // 64-bit integers are strings; numbers will do.
        Json::Text(text)
            if !is_text && (name.ends_with("UnixNano") || name == "intValue") && random.random_bool(0.3) =>
        {
            out.push_str(text);
        }
        Json::Text(text) if name.ends_with("Id") && random.random_bool(0.2) => {
            out.push_str(&format!("\"{}\"", text.to_uppercase()));
        }
        Json::Text(text) => {
            let mut escaped = serde_json::to_string(text).unwrap();
            if !escaped.contains('\\') && random.random_bool(0.1) {
                escaped = escaped.replace('a', "\\u0061").replace('/', "\\/");
            }
            out.push_str(&escaped);
        }
        Json::Array(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                space(random, out);
                write(value, name.strip_suffix("Keys").map_or("", |_| "name"), random, out);
            }
            space(random, out);
            out.push(']');
        }
        Json::Object(fields) => {
            let mut fields: Vec<(String, &Json)> = fields.iter().map(|(name, value)| (name.clone(), value)).collect();
            let is_value = fields.iter().any(|(name, _)| name.ends_with("Value"));
            if random.random_bool(0.2) && !name.is_empty() {
                fields.push(("futureField".to_owned(), &Json::Null));
            }
            if random.random_bool(0.1) && !is_value {
                fields.push(("links".to_owned(), &Json::Null));
            }
            fields.shuffle(random);
            out.push('{');
            for (at, (name, value)) in fields.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                space(random, out);
                let spelling = if random.random_bool(0.2) { snake(name) } else { name.clone() };
                out.push_str(&format!("\"{spelling}\""));
                space(random, out);
                out.push(':');
                space(random, out);
                if name == "futureField" {
                    out.push_str(r#"{"a":[1,{"b":"]}"}],"c":-1.5e3}"#);
                } else {
                    write(value, name, random, out);
                }
            }
            space(random, out);
            out.push('}');
        }
    }
}

fn snake(name: &str) -> String {
    name.chars().flat_map(|c| if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] }).collect()
}

fn space(random: &mut StdRng, out: &mut String) {
    if random.random_bool(0.1) {
        out.push_str([" ", "\n", "\t", "\r\n  "][random.random_range(0..4)]);
    }
}
