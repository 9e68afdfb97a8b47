//! `tracefarm not-found`

use super::handlers::show;
use super::{Exit, Session, out};
use crate::error::Result;
use crate::query::handlers::Overview;
use crate::stage::publish::document::NotFound;

/// List the requests that hit no handler, by method and path
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only this service's
    #[arg(long, env = "TRACEFARM_SERVICE", hide_env_values = true)]
    service: Option<String>,
    /// How many paths of each service; the newest come first
    #[arg(long, value_name = "N", default_value_t = 50, env = "TRACEFARM_LIMIT", hide_env_values = true)]
    limit: usize,
    #[command(flatten)]
    output: out::Output,
}

impl Args {
    /// Lists them.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let overview = Overview::read(&session.query().await?).await?;
        let mut lists = overview.not_found();
        lists.retain(|list| self.service.as_ref().is_none_or(|service| *service == list.list.service));
        for list in &mut lists {
            list.requests.truncate(self.limit);
        }
        self.output.show(&lists, |lists| text(lists))?;
        Ok(Exit::Done)
    }
}

fn text(lists: &[NotFound]) -> String {
    if lists.is_empty() {
        return "Every request hit a handler.\n".to_owned();
    }
    let lists = lists.iter().map(|list| {
        let row = &list.list;
        let head = format!(
            "{}: {} requests, {} methods and paths\n\n",
            out::bold(&out::printable(&row.service)),
            out::count(row.count),
            out::count(row.paths)
        );
        let rest = (row.paths as usize).saturating_sub(list.requests.len());
        let more =
            if rest > 0 { format!("… and {} more (--limit)\n", out::count(rest as u64)) } else { String::new() };
        head + &show::table(list.requests.iter()) + &more
    });
    lists.collect::<Vec<_>>().join("\n")
}
