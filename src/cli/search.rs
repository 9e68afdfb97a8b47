//! `tracefarm search`

use super::out::{self, Column};
use super::{Exit, Session};
use crate::error::Result;
use crate::farm::settings::Span;
use crate::model::HandlerId;
use crate::query::search::{self, Hit, Search, When};

/// Find traces by their entries into handlers, the newest first
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Of this handler (an id as `handlers` lists it)
    #[arg(long, value_name = "ID", env = "TRACEFARM_HANDLER", hide_env_values = true)]
    handler: Option<HandlerId>,
    /// Of this service
    #[arg(long, env = "TRACEFARM_SERVICE", hide_env_values = true)]
    service: Option<String>,
    /// Started at this time or later: a moment, or how long ago (`2h`)
    #[arg(long, value_name = "TIME", env = "TRACEFARM_SINCE", hide_env_values = true)]
    since: Option<When>,
    /// Started before this time: a moment, or how long ago
    #[arg(long, value_name = "TIME", env = "TRACEFARM_UNTIL", hide_env_values = true)]
    until: Option<When>,
    /// Took at least so long (`250ms`)
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = super::span,
        env = "TRACEFARM_MIN_DURATION",
        hide_env_values = true
    )]
    min_duration: Option<Span>,
    /// Status error, or an HTTP status of 500 and more
    #[arg(long, env = "TRACEFARM_ERROR", hide_env_values = true, value_parser = out::boolish())]
    error: bool,
    /// With this HTTP status
    #[arg(long, value_name = "CODE", env = "TRACEFARM_STATUS", hide_env_values = true)]
    status: Option<i32>,
    /// Some span of the trace has this attribute, its own or its resource's; may be said again
    #[arg(
        long = "attr",
        value_name = "KEY=VALUE",
        value_parser = attribute,
        env = "TRACEFARM_ATTR",
        hide_env_values = true
    )]
    attributes: Vec<(String, String)>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, env = "TRACEFARM_LIMIT", hide_env_values = true)]
    limit: usize,
    #[command(flatten)]
    output: out::Output,
}

fn attribute(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("an attribute and its value are written KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Args {
    /// Lists what is found.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let reader = session.query().await?;
        // People mean their own clock, moved as everything else is.
        let now = session.clock.wall().saturating_add(session.clock.offset())?;
        let at = |when: When| when.before(now);
        let search = Search {
            handler: self.handler,
            service: self.service,
            since: self.since.map(at).transpose()?,
            until: self.until.map(at).transpose()?,
            min_duration_ns: self.min_duration.map(|span| i64::try_from(span.0.as_nanos()).unwrap_or(i64::MAX)),
            error: self.error.then_some(true),
            status: self.status,
            attributes: self.attributes,
            limit: self.limit,
            ..Search::default()
        };
        let hits = search::search(&reader, &search).await?;
        self.output.show(&hits, |hits| table(hits))?;
        Ok(Exit::Done)
    }
}

fn table(hits: &[Hit]) -> String {
    if hits.is_empty() {
        return "Nothing found.\n".to_owned();
    }
    let columns = [
        Column::Left("start"),
        Column::Right("took"),
        Column::Right("status"),
        Column::Left("service"),
        Column::Left("handler"),
        Column::Left("trace"),
    ];
    let rows = hits.iter().map(|hit| {
        let status = match (hit.http_status, hit.error) {
            (Some(status), _) => status.to_string(),
            (None, true) => "ERROR".to_owned(),
            (None, false) => String::new(),
        };
        let name = hit.path.as_ref().map_or_else(|| hit.name.clone(), |path| format!("{} {path}", hit.name));
        vec![
            hit.start.strftime("%F %T").to_string(),
            out::duration(hit.duration_ns),
            status,
            hit.service.clone(),
            name,
            hit.trace_id.clone(),
        ]
    });
    out::table(&columns, rows)
}
