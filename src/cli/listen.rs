//! Where pages are served.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::error::Result;
use crate::serve::listen;

/// Of every command that serves them.
#[derive(clap::Args, Debug)]
pub struct Listen {
    /// The address and port of the pages; port 0 is a free one
    #[arg(
        short,
        long = "listen",
        id = "listen",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080",
        env = "TRACEFARM_LISTEN",
        hide_env_values = true
    )]
    pub address: SocketAddr,
}

impl Listen {
    /// # Errors
    /// Those of [`listen::bind`].
    pub async fn bind(&self) -> Result<TcpListener> {
        listen::bind(self.address).await
    }
}
