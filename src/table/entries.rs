//! The `entries` table: one row an entry span, the handler index; sorted by (shard, handler, start descending,
//! trace_id, span_id).

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::spans::{dictionary, received, time};

/// The columns.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let required = |name: &str, data_type| Field::new(name, data_type, false);
        let optional = |name: &str, data_type| Field::new(name, data_type, true);
        Arc::new(Schema::new(vec![
            required("handler", dictionary()),
            // What the handler is: http, rpc, messaging, faas, graphql, job, client, other, custom, not-found.
            required("handler_kind", dictionary()),
            // Its canonical name, eg `GET /products/{id}`; for a 404 list `404`.
            required("handler_name", dictionary()),
            required("start", time()),
            required("duration", DataType::Int64),
            required("trace_id", DataType::FixedSizeBinary(16)),
            required("span_id", DataType::FixedSizeBinary(8)),
            optional("kind", DataType::Int32),
            required("is_root", DataType::Boolean),
            optional("status_code", DataType::Int32),
            optional("http_status", DataType::Int32),
            optional("error_type", dictionary()),
            optional("service", dictionary()),
            optional("service_namespace", dictionary()),
            // The method as a request's (known methods and `_OTHER`).
            optional("method", dictionary()),
            // The route in the framework's own spelling.
            optional("route", dictionary()),
            // The path without its query: only of entries without a route.
            optional("path", DataType::Utf8),
            optional("span_name", dictionary()),
            required("received", received()),
        ]))
    });
    SCHEMA.clone()
}
