//! `tracefarm rebuild`

use serde::Serialize;

use super::{Exit, Session, out};
use crate::error::Result;
use crate::stage::publish;
use crate::store::Stage;

/// Make every summary stale: workers write all of them anew
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    output: out::Output,
}

/// What is printed. The fields are stable.
#[derive(Serialize)]
struct Report {
    /// Parts of the list of handlers that are to be made anew, with every document they name.
    stale_parts: u64,
}

impl Args {
    /// Takes away what says that documents are fresh. The documents themselves stay until new ones are written over
    /// them: readers miss nothing. Dying on the way leaves some parts fresh; run it again.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let store = session.writer().await?.for_stage(Stage::Publish);
        self.output.show(&Report { stale_parts: publish::rebuild(&store).await? }, |report| {
            format!("{} parts are stale; workers write every summary anew.\n", report.stale_parts)
        })?;
        Ok(Exit::Done)
    }
}
