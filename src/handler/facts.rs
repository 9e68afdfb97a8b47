//! What the rules may look at: the few attributes that tell a handler, in the spellings of all conventions.

use std::borrow::Cow;

use crate::otlp::typed_json::Raw;

/// Paths are cut to so many bytes: those of scanners have no end, and the span keeps them whole.
const MAX_PATH_BYTES: usize = 2048;

/// A text that stands in an attribute.
type Text<'a> = Option<Cow<'a, str>>;

/// An entry span, as far as the rules look at it. Of an attribute that is given twice the first counts, as in the
/// promoted columns; one that is empty or no string counts as absent.
#[derive(Clone, Debug, Default)]
pub struct SpanFacts<'a> {
    /// `service.namespace`, empty if none.
    pub namespace: &'a str,
    /// `service.name`, empty if none.
    pub service: &'a str,
    /// The span's name.
    pub name: &'a str,
    /// SpanKind: 0 unspecified, 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    /// Whether it has no parent.
    pub is_root: bool,
    /// `http.response.status_code`, or the old `http.status_code`.
    pub http_status: Option<i32>,
    /// `faas.name` of the resource.
    pub resource_faas_name: Option<&'a str>,

    /// The attribute that the rules call `handler_attribute`.
    pub(super) custom: Text<'a>,
    pub(super) graphql_type: Text<'a>,
    pub(super) http_method: Text<'a>,
    pub(super) http_method_old: Text<'a>,
    pub(super) http_route: Text<'a>,
    pub(super) url_template: Text<'a>,
    pub(super) rpc_service: Text<'a>,
    pub(super) rpc_method: Text<'a>,
    pub(super) faas_name: Text<'a>,
    pub(super) faas_trigger: Text<'a>,
    /// Any attribute that only the span of a function's invocation has.
    pub(super) is_faas: bool,
    pub(super) messaging_type: Text<'a>,
    pub(super) messaging_operation_old: Text<'a>,
    pub(super) messaging_operation: Text<'a>,
    pub(super) destination_template: Text<'a>,
    pub(super) destination: Text<'a>,
    pub(super) destination_old: Text<'a>,
    pub(super) destination_is_temporary: bool,

    // Each request has its own: these give no handler its name.
    pub(super) url_path: Text<'a>,
    pub(super) http_target: Text<'a>,
    pub(super) http_url: Text<'a>,
    pub(super) rpc_method_original: Text<'a>,
}

impl<'a> SpanFacts<'a> {
    /// Takes an attribute of the span, if it is one of those that tell a handler.
    pub fn attribute(&mut self, key: &str, value: Raw<'a>, handler_attribute: &str) {
        // Not in the list below: it may be one of them, eg `code.function.name` or `http.route`.
        if key == handler_attribute && self.custom.is_none() {
            self.custom = scalar(value);
        }
        // Most keys end here.
        if !matches!(key.as_bytes().first(), Some(b'h' | b'u' | b'r' | b'm' | b'f' | b'g')) {
            return;
        }
        let place = match key {
            "graphql.operation.type" => &mut self.graphql_type,
            "http.request.method" => &mut self.http_method,
            "http.method" => &mut self.http_method_old,
            "http.route" => &mut self.http_route,
            "url.path" => &mut self.url_path,
            "http.target" => &mut self.http_target,
            "http.url" | "url.full" => &mut self.http_url,
            "url.template" => &mut self.url_template,
            "rpc.service" => &mut self.rpc_service,
            "rpc.method" => &mut self.rpc_method,
            "rpc.method_original" => &mut self.rpc_method_original,
            "faas.name" => &mut self.faas_name,
            "faas.trigger" => &mut self.faas_trigger,
            "faas.invocation_id" | "faas.execution" | "faas.coldstart" | "faas.cron" => {
                self.is_faas = true;
                return;
            }
            "messaging.operation.type" => &mut self.messaging_type,
            "messaging.operation" => &mut self.messaging_operation_old,
            "messaging.operation.name" => &mut self.messaging_operation,
            "messaging.destination.template" => &mut self.destination_template,
            "messaging.destination.name" => &mut self.destination,
            "messaging.destination" => &mut self.destination_old,
            "messaging.destination.temporary" | "messaging.destination.anonymous" | "messaging.temp_destination" => {
                self.destination_is_temporary |= value.json() == "true";
                return;
            }
            _ => return,
        };
        if place.is_none() {
            *place = value.as_str().filter(|text| !text.is_empty());
        }
    }

    /// Everything that a rule looks at, as bytes: spans with the same bytes have the same handler.
    pub(super) fn identity(&self, bytes: &mut Vec<u8>) {
        // Named one by one, so that a new field is either here or said to be none of the identity.
        let Self {
            namespace,
            service,
            name,
            kind,
            is_root,
            http_status: _,
            resource_faas_name,
            custom,
            graphql_type,
            http_method,
            http_method_old,
            http_route,
            url_template,
            rpc_service,
            rpc_method,
            faas_name,
            faas_trigger,
            is_faas,
            messaging_type,
            messaging_operation_old,
            messaging_operation,
            destination_template,
            destination,
            destination_old,
            destination_is_temporary,
            url_path: _,
            http_target: _,
            http_url: _,
            rpc_method_original: _,
        } = self;
        bytes.clear();
        bytes.extend(kind.to_le_bytes());
        let flags = [*is_root, self.is_missing(), *is_faas, *destination_is_temporary];
        bytes.extend(flags.map(u8::from));
        let texts = [Some(*namespace), Some(*service), Some(*name), *resource_faas_name];
        let attributes = [
            custom,
            graphql_type,
            http_method,
            http_method_old,
            http_route,
            url_template,
            rpc_service,
            rpc_method,
            faas_name,
            faas_trigger,
            messaging_type,
            messaging_operation_old,
            messaging_operation,
            destination_template,
            destination,
            destination_old,
        ];
        for text in texts.into_iter().chain(attributes.map(Option::as_deref)) {
            match text {
                // No text has this length.
                None => bytes.extend(u32::MAX.to_le_bytes()),
                Some(text) => {
                    bytes.extend((text.len() as u32).to_le_bytes());
                    bytes.extend(text.as_bytes());
                }
            }
        }
    }

    /// Whether the answer was that there is no such thing: 404, or 405 for another method.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self.http_status, Some(404 | 405))
    }

    /// Whether it is a span of kind SERVER with an HTTP request's attributes.
    pub(super) fn is_http_server(&self) -> bool {
        self.kind == super::rules::SERVER && (self.method().is_some() || self.http_route.is_some())
    }

    /// The request's method as it was recorded.
    pub(super) fn method(&self) -> Option<&str> {
        self.http_method.as_deref().or(self.http_method_old.as_deref())
    }

    /// The request's path, without its query; of an RPC for an unknown method the method that was asked for.
    pub(super) fn path(&self) -> Option<Cow<'_, str>> {
        let path = if let Some(path) = self.url_path.as_deref() {
            path
        } else if let Some(target) = self.http_target.as_deref() {
            // An absolute form (`GET http://host/path`) is allowed by RFC 9112, section 3.2.2.
            if target.starts_with('/') { target } else { path_of_url(target).unwrap_or(target) }
        } else if let Some(url) = self.http_url.as_deref() {
            path_of_url(url)?
        } else {
            let method = self.rpc_method_original.as_deref()?;
            // As it stands on the wire.
            let slash = if method.starts_with('/') { "" } else { "/" };
            return Some(format!("{slash}{}", &method[..method.floor_char_boundary(MAX_PATH_BYTES)]).into());
        };
        let path = path.split(['?', '#']).next().unwrap_or_default();
        Some(path[..path.floor_char_boundary(MAX_PATH_BYTES)].into())
    }
}

/// The path of an absolute URL, or of one without a scheme.
fn path_of_url(url: &str) -> Option<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    match rest.find(['/', '?', '#']) {
        Some(at) if rest[at..].starts_with('/') => Some(&rest[at..]),
        // `http://host` and `http://host?x` ask for the root.
        _ if url.contains("://") => Some("/"),
        _ => None,
    }
}

/// A text, number or boolean as text: people may name handlers by any of them.
fn scalar(value: Raw<'_>) -> Text<'_> {
    let text = match value.as_str() {
        Some(text) => text,
        None if value.json().starts_with(['{', '[', 'n']) => return None,
        None => Cow::Borrowed(value.json()),
    };
    (!text.is_empty()).then_some(text)
}
