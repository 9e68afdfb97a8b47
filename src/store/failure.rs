//! Failed calls to the store, and what to do about them.

mod said;

use std::error::Error as StdError;
use std::io;

use object_store::Error as ClientError;
use object_store::client::{HttpError, HttpErrorKind};

pub use said::Said;
pub(super) use said::{OtherRegion, Trail};

/// Why a call to the store failed, and so what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// It is not there: list again (rule 4).
    NotFound,
    /// A create-only write found the name taken by other content.
    AlreadyExists,
    /// The object is no longer what was read.
    Changed,
    /// The credentials do not allow it, or are missing, or the bucket is gone: a person must look.
    Denied,
    /// The disk or the quota is full.
    Full,
    /// It did not answer, or asked to slow down, beyond all retries: a later cycle tries again.
    Unavailable,
    /// Anything else.
    Other,
}

/// A failed call to the store: which object, what was tried.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path}")]
pub struct StoreError {
    /// What to do about it.
    pub kind: StoreErrorKind,
    /// What was tried: a verb, eg `read`.
    pub operation: &'static str,
    /// The object or prefix, with the store's URL.
    pub path: String,
    /// What the store or its client said: a [`Said`], where it was asked.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What calls to the store return.
pub type StoreResult<T> = Result<T, StoreError>;

impl StoreError {
    /// What the store or its client said, and how often it was asked; none where nothing was asked.
    pub fn said(&self) -> Option<&Said> {
        self.source.as_deref()?.downcast_ref()
    }
}

/// What an error of the client, or of a file system, means to us.
pub(super) fn kind(error: &ClientError) -> StoreErrorKind {
    let root = |error: &(dyn StdError + 'static)| of_chain(Some(error));
    match error {
        ClientError::NotFound { source, .. } => match of_chain(Some(source.as_ref())) {
            // The bucket itself: no object of it will ever be found by listing again.
            Some(StoreErrorKind::Denied) => StoreErrorKind::Denied,
            _ => StoreErrorKind::NotFound,
        },
        ClientError::AlreadyExists { .. } => StoreErrorKind::AlreadyExists,
        ClientError::Precondition { .. } | ClientError::NotModified { .. } => StoreErrorKind::Changed,
        ClientError::PermissionDenied { .. } | ClientError::Unauthenticated { .. } => StoreErrorKind::Denied,
        error => root(error).unwrap_or(StoreErrorKind::Other),
    }
}

/// How the clouds say that the bucket itself is not there.
pub(super) const ABSENT: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"];

/// What S3 answers with 400 and has to do with credentials or the bucket's region: a person must look.
const DENIED: [&str; 4] = ["ExpiredToken", "InvalidToken", "TokenRefreshRequired", "AuthorizationHeaderMalformed"];

/// The meaning of the first error in the chain that has one.
fn of_chain(error: Option<&(dyn StdError + 'static)>) -> Option<StoreErrorKind> {
    let mut next = error;
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && let Some(kind) = of_io(error)
        {
            return Some(kind);
        }
        if let Some((status, body)) = bad_answer(&error.to_string()) {
            if ABSENT.iter().chain(&DENIED).any(|code| body.contains(code)) {
                return Some(StoreErrorKind::Denied);
            }
            match status {
                412 => return Some(StoreErrorKind::Changed),
                409 => return Some(StoreErrorKind::AlreadyExists),
                401 | 403 => return Some(StoreErrorKind::Denied),
                507 => return Some(StoreErrorKind::Full),
                408 | 429 | 500.. => return Some(StoreErrorKind::Unavailable),
                _ => {}
            }
        }
        if error.is::<OtherRegion>() {
            return Some(StoreErrorKind::Denied);
        }
        if let Some(error) = error.downcast_ref::<HttpError>()
            && !error.source().is_some_and(|source| source.is::<OtherRegion>())
        {
            return match error.kind() {
                HttpErrorKind::Unknown | HttpErrorKind::Decode => None,
                _ => Some(StoreErrorKind::Unavailable),
            };
        }
        next = error.source();
    }
    None
}

/// The status of an answer that was no success, and what it said. The client's own type for it has no public name, but a
/// fixed text.
fn bad_answer(text: &str) -> Option<(u16, &str)> {
    let (_, answer) = text.split_once("non-2xx status code: ")?;
    Some((answer.get(..3)?.parse().ok()?, answer))
}

fn of_io(error: &io::Error) -> Option<StoreErrorKind> {
    Some(match error.kind() {
        io::ErrorKind::NotFound => StoreErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => StoreErrorKind::AlreadyExists,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
        io::ErrorKind::TimedOut | io::ErrorKind::StaleNetworkFileHandle | io::ErrorKind::HostUnreachable => {
            StoreErrorKind::Unavailable
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_cause_that_means_something_decides() {
        for (error, expected) in [
            (io::ErrorKind::StorageFull, StoreErrorKind::Full),
            (io::ErrorKind::QuotaExceeded, StoreErrorKind::Full),
            (io::ErrorKind::ReadOnlyFilesystem, StoreErrorKind::Denied),
            (io::ErrorKind::InvalidData, StoreErrorKind::Other),
        ] {
            let error = ClientError::Generic { store: "local", source: Box::new(io::Error::from(error)) };
            assert_eq!(kind(&error), expected, "{error}");
        }
    }
}
