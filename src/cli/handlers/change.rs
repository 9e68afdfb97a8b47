//! What people say of handlers: `handlers add`, `rename`, `keep`, `remove`. Each writes a version of the catalogue;
//! readers apply it at once, publishing with the next round, and no row moves.

use clap::Subcommand;
use serde::Serialize;

use super::{Exit, Session, out};
use crate::error::{Mistake, Result, report};
use crate::farm::documents;
use crate::handler::catalogue::{Catalogue, ExplicitRoute};
use crate::model::HandlerId;
use crate::query::handlers::Overview;
use crate::table::digest::NEWEST_KEPT;

#[derive(Subcommand, Debug)]
pub(super) enum Change {
    /// Write a route for requests that a framework names by their path alone, or that are on the 404 list
    Add(Add),
    /// Say that a route was renamed: the new handler counts as the old one, which keeps its id and its traces
    Rename(Rename),
    /// How many of a handler's newest traces are kept for ever
    Keep(Keep),
    /// Take a dead handler off the list, and drop its pins; it comes back if it is hit again
    Remove(Remove),
}

/// Write a route
#[derive(clap::Args, Debug)]
pub(super) struct Add {
    /// The service's name (`service.name`); `''` for those without one, which lists show as unknown_service
    service: String,
    /// The route with its method, eg `GET /users/{id}`; `*` stands for every method
    route: String,
    /// The service's namespace (`service.namespace`)
    #[arg(long, default_value = "", env = "TRACEFARM_NAMESPACE", hide_env_values = true, hide_default_value = true)]
    namespace: String,
    #[command(flatten)]
    output: out::Output,
}

/// Count a handler's entries as another's
#[derive(clap::Args, Debug)]
pub(super) struct Rename {
    /// The handler as it was: the id that stays
    old: HandlerId,
    /// The handler as it is now: its entries count as the old one's
    new: HandlerId,
    #[command(flatten)]
    output: out::Output,
}

/// How many traces are kept
#[derive(clap::Args, Debug)]
pub(super) struct Keep {
    /// The handler's id
    handler: HandlerId,
    /// 1 to 100, or `default`
    traces: String,
    #[command(flatten)]
    output: out::Output,
}

/// Drop a dead handler
#[derive(clap::Args, Debug)]
pub(super) struct Remove {
    /// The handler's id
    handler: HandlerId,
    #[command(flatten)]
    output: out::Output,
}

/// What is printed. The fields are stable.
#[derive(Serialize)]
struct Report {
    /// The number of the version that counts now.
    version: u64,
    /// All of it.
    catalogue: Catalogue,
}

impl Change {
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let store = session.writer().await?;
        let named = self.handlers();
        if !named.is_empty() {
            let overview = Overview::read(&session.query().await?).await?;
            if let Some(unknown) = named.into_iter().find(|id| !overview.knows(id)) {
                return Ok(super::missing(unknown));
            }
        }
        let now = session.store_now(&store).await?;
        let output = match &self {
            Self::Add(Add { output, .. })
            | Self::Rename(Rename { output, .. })
            | Self::Keep(Keep { output, .. })
            | Self::Remove(Remove { output, .. }) => *output,
        };
        let edit = |_, old: &Catalogue| {
            let mut new = old.clone();
            self.apply(&mut new, now).map_err(|mistake| report!(mistake).into_dynamic())?;
            Ok(new)
        };
        let (version, catalogue) = documents::change::<Catalogue>(&store, edit).await?;
        output.show(&Report { version, catalogue }, |report| {
            format!("The catalogue is now version {}.\n", report.version)
        })?;
        Ok(Exit::Done)
    }

    /// The handlers that must be there: a wrong id would be written down for ever, without effect.
    fn handlers(&self) -> Vec<&HandlerId> {
        match self {
            Self::Rename(Rename { old, new, .. }) => vec![old, new],
            // Back to the default also of one that has gone.
            Self::Keep(Keep { traces, .. }) if traces == "default" => Vec::new(),
            Self::Keep(Keep { handler, .. }) | Self::Remove(Remove { handler, .. }) => vec![handler],
            Self::Add(_) => Vec::new(),
        }
    }

    fn apply(&self, catalogue: &mut Catalogue, now: jiff::Timestamp) -> Result<(), Mistake> {
        match self {
            Self::Add(Add { service, route, namespace, .. }) => {
                let (method, route) =
                    route.split_once(' ').filter(|(_, route)| route.starts_with('/')).ok_or_else(|| {
                        Mistake(format!("`{route}` is no route with its method, such as `GET /users/{{id}}`"))
                    })?;
                let (service, namespace) = (service.clone(), namespace.clone());
                let (method, route) = (method.to_owned(), route.to_owned());
                let route = ExplicitRoute { service, namespace, method, route, added: Some(now) };
                catalogue.add(route).map_err(Mistake)?;
            }
            Self::Rename(Rename { old, new, .. }) => {
                // The id that pages and links know is the old one: it stays.
                catalogue.alias(new, old).map_err(Mistake)?;
            }
            Self::Keep(Keep { handler, traces, .. }) if traces == "default" => {
                catalogue.keep_last.remove(handler);
            }
            Self::Keep(Keep { handler, traces, .. }) => {
                let number = traces.parse().ok().filter(|number| (1..=NEWEST_KEPT as u32).contains(number));
                let number =
                    number.ok_or_else(|| Mistake(format!("`{traces}` is neither 1 to {NEWEST_KEPT} nor `default`")))?;
                catalogue.keep_last.insert(handler.clone(), number);
            }
            Self::Remove(Remove { handler, .. }) => {
                catalogue.remove(handler, now);
            }
        }
        Ok(())
    }
}
