//! The `spans` table: one row a span, flat, lossless; sorted by (shard, trace_id, start, span_id).

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// `Dictionary(Int32, Utf8)`: strings that repeat.
pub(crate) fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// Nanoseconds since 1970, UTC. The 64 bits are those that were sent (an unsigned number there).
pub(crate) fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// The last-modified of the inbox object: whole seconds, kept in milliseconds because Parquet has no coarser unit.
pub(crate) fn received() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// The columns. A text, number or count is null where the protocol's value is empty or zero, unless it says otherwise.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let required = |name: &str, data_type| Field::new(name, data_type, false);
        let optional = |name: &str, data_type| Field::new(name, data_type, true);
        Arc::new(Schema::new(vec![
            required("trace_id", DataType::FixedSizeBinary(16)),
            required("span_id", DataType::FixedSizeBinary(8)),
            optional("parent_span_id", DataType::FixedSizeBinary(8)),
            required("start", time()),
            // End − start in nanoseconds, wrapping: negative if the span ends before it starts.
            required("duration", DataType::Int64),
            // `service.name` and `service.namespace` of the resource, if they are strings.
            optional("service", dictionary()),
            optional("service_namespace", dictionary()),
            optional("scope", dictionary()),
            optional("scope_version", dictionary()),
            optional("name", dictionary()),
            // SpanKind: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
            optional("kind", DataType::Int32),
            // StatusCode: 1 ok, 2 error.
            optional("status_code", DataType::Int32),
            optional("status_message", dictionary()),
            optional("trace_state", dictionary()),
            optional("flags", DataType::UInt32),
            optional("dropped_attributes", DataType::UInt32),
            optional("dropped_events", DataType::UInt32),
            optional("dropped_links", DataType::UInt32),
            optional("resource_dropped_attributes", DataType::UInt32),
            optional("scope_dropped_attributes", DataType::UInt32),
            optional("resource_schema_url", dictionary()),
            optional("scope_schema_url", dictionary()),
            // The few attributes that people filter on, copied out of `attributes` (null if absent), new conventions
            // and old: http.request.method|http.method, http.route, http.response.status_code|http.status_code,
            // rpc.method (`service/method` in the old form), db.system.name|db.system, error.type. At most 64 KiB.
            optional("http_method", dictionary()),
            optional("http_route", dictionary()),
            optional("http_status", DataType::Int32),
            optional("rpc_method", dictionary()),
            optional("db_system", dictionary()),
            optional("error_type", dictionary()),
            // Typed JSON (otlp::typed_json), objects; null if there are none.
            optional("attributes", DataType::Utf8),
            optional("scope_attributes", dictionary()),
            optional("resource", dictionary()),
            // Typed JSON, an array of resource.entity_refs as OTLP/JSON writes them; null if there are none.
            optional("entity_refs", dictionary()),
            // Typed JSON, arrays of objects: events {"time","name","attributes","dropped"}, links {"trace_id",
            // "span_id","trace_state","attributes","dropped","flags"}; null if there are none.
            optional("events", DataType::Utf8),
            optional("links", DataType::Utf8),
            required("received", received()),
        ]))
    });
    SCHEMA.clone()
}
