//! `tracefarm handlers`

mod change;
pub mod show;

use clap::Subcommand;

use super::out::{self, Column};
use super::{Exit, Session, complain};
use crate::error::Result;
use crate::model::HandlerId;
use crate::query::handlers::Overview;
use crate::stage::publish::document::Row;

/// List the handlers, show one, or say what people know of them
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    output: out::Output,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List the handlers with their numbers (what happens if nothing is said)
    Ls(Ls),
    /// Show one handler in full
    Show(Show),
    #[command(flatten)]
    Change(change::Change),
}

/// List the handlers
#[derive(clap::Args, Debug)]
struct Ls {
    /// Only this service's
    #[arg(long, env = "TRACEFARM_SERVICE", hide_env_values = true)]
    service: Option<String>,
    #[command(flatten)]
    output: out::Output,
}

/// Show one
#[derive(clap::Args, Debug)]
struct Show {
    /// The handler's id, as `handlers ls` prints it, or an alias
    #[arg(value_name = "HANDLER")]
    handler: HandlerId,
    #[command(flatten)]
    output: out::Output,
}

impl Args {
    /// Lists, shows or changes.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        match self.what {
            None => ls(session, None, self.output).await,
            Some(What::Ls(Ls { service, output })) => ls(session, service.as_deref(), output).await,
            Some(What::Show(Show { handler, output })) => {
                let overview = Overview::read(&session.query().await?).await?;
                let Some(summary) = overview.summary(&handler).await? else {
                    return Ok(missing(&handler));
                };
                output.show(&summary, show::text)?;
                Ok(Exit::Done)
            }
            Some(What::Change(change)) => change.run(session).await,
        }
    }
}

async fn ls(session: &Session, service: Option<&str>, output: out::Output) -> Result<Exit> {
    let mut rows = Overview::read(&session.query().await?).await?.rows().await?;
    rows.retain(|row| service.is_none_or(|service| row.service == service));
    output.show(&rows, |rows| table(rows))?;
    Ok(Exit::Done)
}

/// The handlers as a table.
pub fn table(rows: &[Row]) -> String {
    let columns = [
        Column::Left("service"),
        Column::Left("handler"),
        Column::Right("count"),
        Column::Right("errors"),
        Column::Right("p50"),
        Column::Right("p99"),
        Column::Left("newest"),
        Column::Left("id"),
    ];
    let rows = rows.iter().map(|row| {
        vec![
            row.service.clone(),
            row.name.clone(),
            out::count(row.count),
            if row.errors == 0 { String::new() } else { out::count(row.errors) },
            millis(row.p50_ms),
            millis(row.p99_ms),
            row.last_ms.map_or_else(String::new, |ms| out::moment(ms.saturating_mul(1_000_000))),
            row.id.to_string(),
        ]
    });
    out::table(&columns, rows)
}

fn missing(id: &HandlerId) -> Exit {
    complain(&format!("there is no handler {id}: `tracefarm handlers` lists them"));
    Exit::Missing
}

fn millis(ms: Option<f64>) -> String {
    ms.map_or_else(String::new, |ms| out::duration((ms * 1e6) as i64))
}
