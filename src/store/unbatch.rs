//! Azure's client deletes by batches only (`POST ?comp=batch`, [Blob Batch]). A batch knows neither conditions nor,
//! signed as it is, names that the client cannot hold. So a batch of one becomes the plain request that it holds
//! ([Delete Blob]), and the answer to that the answer to a batch.
//!
//! [Blob Batch]: https://learn.microsoft.com/en-us/rest/api/storageservices/blob-batch
//! [Delete Blob]: https://learn.microsoft.com/en-us/rest/api/storageservices/delete-blob

use object_store::client::{HttpRequest, HttpRequestBody, HttpResponse};
use object_store::{HeaderMap, HeaderValue};

/// The request within a batch of one.
pub(super) fn unbatch(batch: &HttpRequest) -> Option<HttpRequest> {
    if batch.method().as_str() != "POST" || !batch.uri().query()?.split('&').any(|pair| pair == "comp=batch") {
        return None;
    }
    let body = std::str::from_utf8(batch.body().as_bytes()?).ok()?;
    let (_, one) = body.split_once("\r\n\r\nDELETE ")?;
    if one.contains("\r\nDELETE ") {
        return None;
    }
    let (target, headers) = one.split_once(" HTTP/1.1\r\n")?;
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = "DELETE".parse().ok()?;
    let uri = batch.uri();
    *request.uri_mut() = format!("{}://{}{target}", uri.scheme_str()?, uri.authority()?).parse().ok()?;
    let mut map = HeaderMap::new();
    for line in headers.lines().take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        // The three that a request in a batch has beside its length.
        let name = match name.to_ascii_lowercase().as_str() {
            "authorization" => "authorization",
            "x-ms-date" => "x-ms-date",
            "x-ms-version" => "x-ms-version",
            _ => continue,
        };
        map.insert(name, HeaderValue::from_str(value.trim()).ok()?);
    }
    // A batch may leave out what its envelope says.
    if !map.contains_key("x-ms-version") {
        map.insert("x-ms-version", batch.headers().get("x-ms-version")?.clone());
    }
    *request.headers_mut() = map;
    Some(request)
}

/// The answer to the batch, of the answer to the request in it. A failure is the batch's: the client repeats what can
/// pass, and reports the rest.
pub(super) fn batched(answer: HttpResponse) -> HttpResponse {
    let status = answer.status();
    if !status.is_success() && status.as_u16() != 404 {
        return answer;
    }
    let part = format!(
        "--one\r\nContent-Type: application/http\r\nContent-ID: 0\r\n\r\nHTTP/1.1 {} {}\r\n\r\n--one--\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("-"),
    );
    let mut batch = HttpResponse::new(part.into());
    batch.headers_mut().insert("content-type", HeaderValue::from_static("multipart/mixed; boundary=one"));
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(parts: usize) -> HttpRequest {
        let part = "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: 0\r\n\r\n\
                    DELETE /traces/a%20b?sig=x HTTP/1.1\r\ncontent-length: 0\r\nx-ms-date: now\r\n\
                    x-ms-version: 2023-11-03\r\nauthorization: SharedKey a:b\r\n\r\n\r\n";
        let mut request = HttpRequest::new(format!("{}--b--\r\n", part.repeat(parts)).into());
        *request.method_mut() = "POST".parse().unwrap();
        *request.uri_mut() = "https://a.blob/traces?restype=container&comp=batch".parse().unwrap();
        request
    }

    #[tokio::test]
    async fn a_batch_of_one_is_that_one() {
        let one = unbatch(&batch(1)).unwrap();
        assert_eq!(
            (one.method().as_str(), one.uri().to_string()),
            ("DELETE", "https://a.blob/traces/a%20b?sig=x".into())
        );
        assert_eq!(one.headers().get("authorization").unwrap(), "SharedKey a:b");
        assert!(unbatch(&batch(2)).is_none());
        assert!(unbatch(&one).is_none());
        let mut gone = HttpResponse::new(Vec::new().into());
        *gone.status_mut() = 404.try_into().unwrap();
        let text = batched(gone).into_body().bytes().await.unwrap();
        assert!(std::str::from_utf8(&text).unwrap().contains("HTTP/1.1 404 Not Found"));
    }
}
