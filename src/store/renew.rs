//! AWS credentials that are fetched anew when the store says that they have expired.
//!
//! The client keeps the credentials of a role until shortly before the time at which they were said to expire. They may
//! end before (a session is revoked, a clock is wrong), and it would go on with them until then.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::{AwsCredential, AwsCredentialProvider};

use super::Stage;
use super::connect::Call;
use super::failure::Trail;

/// Makes the client's chain of providers, with nothing in its cache.
type Make = dyn Fn() -> object_store::Result<AwsCredentialProvider> + Send + Sync;

/// The client's chain of providers, which can be begun anew.
pub(super) struct Renewing {
    make: Box<Make>,
    current: Mutex<AwsCredentialProvider>,
}

impl std::fmt::Debug for Renewing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Renewing")
    }
}

impl Renewing {
    /// # Errors
    /// That of `make`: the environment names no credentials that could be used.
    pub(super) fn new(
        make: impl Fn() -> object_store::Result<AwsCredentialProvider> + Send + Sync + 'static,
    ) -> object_store::Result<Self> {
        let current = Mutex::new(make()?);
        Ok(Self { make: Box::new(make), current })
    }

    /// The credentials of key `expired` are no longer accepted: whether there are others. Of many requests that notice
    /// it at once the first fetches them.
    pub(super) async fn renew(&self, expired: &str) -> object_store::Result<bool> {
        if self.get_credential().await?.key_id != expired {
            return Ok(true);
        }
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = (self.make)()?;
        Ok(self.get_credential().await?.key_id != expired)
    }
}

#[async_trait]
impl CredentialProvider for Renewing {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Not an attempt of the call that needs them.
        let call = Call { stage: Stage::Farm, only: None, trail: Trail::default() };
        call.scope(current.get_credential()).await
    }
}
