//! OTLP over gRPC: the one method of `TraceService`, plain or gzip. Messages are not decoded and encoded again: what came
//! is what is checked and kept.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Buf, BufMut, Bytes};
use http_body_util::BodyExt;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Status};
use tower_http::catch_panic::CatchPanicLayer;

use super::body::{Holds, Taken};
use super::{Counts, Receiver, Refusal, http};
use crate::otlp::request::Encoding;
use crate::serve::tell_panic;

/// The one method.
pub const PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// What stands before a message: whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;

/// A server for OTLP and nothing else, for HTTP/2.
pub fn router(receiver: &Receiver) -> Router {
    let panicked = |panic: Box<dyn Any + Send>| {
        tell_panic(&*panic);
        response(Refusal::Failed.into())
    };
    let unknown = async || {
        response(Status::unimplemented(
            "traces are taken here, by TraceService; neither metrics nor logs are taken at all",
        ))
    };
    Router::new()
        .route(PATH, post(export))
        .fallback(unknown)
        .with_state(receiver.clone())
        .layer(CatchPanicLayer::custom(panicked))
}

fn response(status: Status) -> Response {
    status.into_http::<axum::body::Body>()
}

async fn export(State(receiver): State<Receiver>, request: Request) -> Response {
    let is_known = receiver.options().token.as_ref().is_none_or(|token| token.is_known(request.headers()));
    let taken = match is_known {
        true => {
            let (parts, body) = request.into_parts();
            Taken::new(body, &receiver, FRAME_BYTES).map(|(body, holds)| (parts, body, holds))
        }
        false => Err(Refusal::Stranger),
    };
    let (parts, body, holds) = match taken {
        Ok(taken) => taken,
        Err(refusal) => {
            receiver.counts().refused(&refusal);
            return response(refusal.into());
        }
    };
    let (counts, most) = (receiver.counts().clone(), receiver.options().request_bytes);
    let counted = Counted::default();
    let body = body.map_err({
        let (counts, counted) = (counts.clone(), counted.clone());
        move |refusal| counted.refused(&counts, refusal)
    });
    let mut grpc = Grpc::new(Raw).accept_compressed(CompressionEncoding::Gzip).max_decoding_message_size(most);
    let method = Export { receiver, holds, counted: counted.clone() };
    let answer = grpc.unary(method, axum::http::Request::from_parts(parts, body)).await;
    let answer = answer.map(axum::body::Body::new).into_response();
    // A failure stands in the headers. One that is not ours is the library's: of the frame, or of what is packed in it.
    match answer.headers().get("grpc-status").map(|code| Code::from_bytes(code.as_bytes())) {
        None => answer,
        Some(_) if counted.0.load(Ordering::Relaxed) => answer,
        // It calls a message that is too large "out of range", which clients send again and again.
        Some(Code::OutOfRange | Code::ResourceExhausted) => response(counted.refused(&counts, Refusal::TooLarge(most))),
        Some(_) => {
            counts.refused(&Refusal::Unreadable(String::new()));
            answer
        }
    }
}

/// Whether a request has been counted as refused.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicBool>);

impl Counted {
    fn refused(&self, counts: &Counts, refusal: Refusal) -> Status {
        counts.refused(&refusal);
        self.0.store(true, Ordering::Relaxed);
        refusal.into()
    }
}

/// The method.
struct Export {
    receiver: Receiver,
    holds: Holds,
    counted: Counted,
}

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (receiver, held, counted) = (self.receiver.clone(), self.holds.take(), self.counted.clone());
        Box::pin(async move {
            let message = request.into_inner();
            let taken = match held {
                Some(held) => receiver.take(message, None, Encoding::Protobuf, held).await,
                None => Err(Refusal::Cut),
            };
            let checked = taken.map_err(|refusal| counted.refused(receiver.counts(), refusal))?;
            Ok(tonic::Response::new(http::response(&checked).into()))
        })
    }
}

/// Messages as the bytes that they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
