//! Signatures of requests that were changed after their client had signed them.

use std::sync::Arc;

use object_store::CredentialProvider;
use object_store::aws::AwsAuthorizer;
use object_store::azure::{AzureAuthorizer, AzureCredentialProvider};
use object_store::client::HttpRequest;

use super::renew::Renewing;

/// Who signs, and with what.
#[derive(Debug)]
pub(super) enum Signer {
    /// A signature over method, path, query and headers (AWS Signature Version 4).
    Aws { credentials: Arc<Renewing>, region: String },
    /// Azure's shared key, likewise; with other credentials there is nothing to sign.
    Azure { credentials: AzureCredentialProvider, account: String },
    /// A token (GCS), whatever the request.
    Bearer,
}

impl Signer {
    /// Signs `request` with other credentials than it is signed with, if there are any.
    pub(super) async fn renew(&self, request: &mut HttpRequest) -> object_store::Result<bool> {
        let Self::Aws { credentials, .. } = self else { return Ok(false) };
        let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        let key = authorization.and_then(|text| text.split_once("Credential=")?.1.split('/').next());
        let renewed = match key {
            Some(key) => credentials.renew(key).await?,
            None => false,
        };
        if renewed {
            self.sign(request).await?;
        }
        Ok(renewed)
    }

    /// Signs `request` again, if it is of a kind that is signed.
    pub(super) async fn sign(&self, request: &mut HttpRequest) -> object_store::Result<()> {
        let header = |request: &HttpRequest, name: &str| {
            request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let Some(authorization) = header(request, "authorization") else { return Ok(()) };
        match self {
            Self::Aws { credentials, region } if authorization.starts_with("AWS4") => {
                let credential = credentials.get_credential().await?;
                let authorizer = AwsAuthorizer::new(&credential, "s3", region);
                // The body is what it was; its hash stands in the request.
                let digest = header(request, "x-amz-content-sha256").and_then(|digest| from_hex(&digest));
                request.headers_mut().remove("authorization");
                // Of other credentials, if it was signed with some.
                request.headers_mut().remove("x-amz-security-token");
                authorizer.with_sign_payload(digest.is_some()).try_authorize(request, digest.as_deref())
            }
            Self::Azure { credentials, account } if authorization.starts_with("SharedKey") => {
                let credential = credentials.get_credential().await?;
                request.headers_mut().remove("authorization");
                AzureAuthorizer::new(&credential, account).try_authorize(request)
            }
            _ => Ok(()),
        }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect::<Option<Vec<_>>>()
        .filter(|digest| digest.len() == 32)
}
