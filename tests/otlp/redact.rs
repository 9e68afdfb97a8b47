//! Attributes lose their values before anything is stored, wherever they stand and however they came.

use jiff::Timestamp;
use tracefarm::otlp::redact::Redact;
use tracefarm::otlp::{Limits, ObjectDecoder, SpanRows, encode};

use crate::{encoded, oracle};

const INPUT: &str = r#"{"resourceSpans":[{"resource":{"attributes":[
    {"key":"service.name","value":{"stringValue":"shop"}},
    {"key":"host.name","value":{"stringValue":"secret-host"}}]},
  "scopeSpans":[{"scope":{"name":"s","attributes":[{"key":"scope.email","value":{"stringValue":"secret-scope"}}]},
  "spans":[{"traceId":"00000000000000000000000000000001","spanId":"0000000000000001","name":"kept",
    "attributes":[
      {"key":"user.email","value":{"stringValue":"secret-span"}},
      {"key":"http.route","value":{"stringValue":"/secret"}},
      {"key":"http.status_code","value":{"intValue":"404"}},
      {"key":"outer","value":{"kvlistValue":{"values":[{"key":"user.email","value":{"stringValue":"nested"}}]}}}],
    "droppedAttributesCount":4,
    "events":[{"name":"e","attributes":[{"key":"user.email","value":{"stringValue":"secret-event"}}]}],
    "links":[{"traceId":"01","attributes":[{"key":"user.email","value":{"intValue":"5"}}],"droppedAttributesCount":1}]
  }]}]}]}"#;

#[test]
fn redacted_values_are_nowhere() {
    let protobuf = prost::Message::encode_to_vec(&oracle::traces_data(&oracle::documents(INPUT)[0]));
    let redact = Redact::new(&["*.email".to_owned()], &["host.*".to_owned(), "http.*".to_owned()]).unwrap();
    let [from_json, from_protobuf] = [INPUT.as_bytes(), &protobuf].map(|object| {
        let mut rows = SpanRows::new(redact.clone());
        let mut decoder = ObjectDecoder::new(object, Timestamp::UNIX_EPOCH, Limits::default());
        decoder.decode(&mut rows, usize::MAX).unwrap();
        assert_eq!(decoder.bad(), []);
        rows.finish()
    });
    assert_eq!(from_json, from_protobuf);
    assert!(!format!("{from_json:?}").contains("secret"));
    insta::assert_snapshot!(encode::traces_data(std::slice::from_ref(&from_json)).unwrap(), @r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}},{"key":"host.name","value":{"stringValue":"sha256:5de42956b992f441679de789d3bdabee"}}]},"scopeSpans":[{"scope":{"name":"s","droppedAttributesCount":1},"spans":[{"traceId":"00000000000000000000000000000001","spanId":"0000000000000001","name":"kept","attributes":[{"key":"http.route","value":{"stringValue":"sha256:0f7cb8886e5b21c75c8d7bb6e561549b"}},{"key":"http.status_code","value":{"stringValue":"sha256:6b3c238ebcf1f3c07cf0e556faa82c6b"}},{"key":"outer","value":{"kvlistValue":{"values":[{"key":"user.email","value":{"stringValue":"nested"}}]}}}],"droppedAttributesCount":5,"events":[{"name":"e","droppedAttributesCount":1}],"links":[{"traceId":"01","droppedAttributesCount":2}]}]}]}]}"#);
    let route = from_json.column_by_name("http_route").unwrap();
    assert!(format!("{route:?}").contains("sha256:"), "promoted columns are made of what is stored: {route:?}");
    assert_eq!(from_json.column_by_name("http_status").unwrap().null_count(), 1);
    // The rows go on redacting after they were taken.
    assert!(encoded(INPUT.as_bytes()).contains("secret"));
}
