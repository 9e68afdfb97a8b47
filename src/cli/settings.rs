//! `tracefarm settings`

use clap::Subcommand;
use serde::Serialize;

use super::out::{self, Column};
use super::{Exit, Session};
use crate::error::{Mistake, Result};
use crate::farm::Settings;
use crate::farm::settings::{Shown, command_line};

/// Show or change the store's settings
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    output: out::Output,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Show every setting (what happens if nothing is said)
    Show(ShowArgs),
    /// Set some: `settings set keep_for=14d shards=4`; all of them or none
    Set(SetArgs),
}

/// Show every setting
#[derive(clap::Args, Debug)]
struct ShowArgs {
    #[command(flatten)]
    output: out::Output,
}

/// Set some
#[derive(clap::Args, Debug)]
struct SetArgs {
    /// Settings and their new values
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = pair)]
    values: Vec<(String, String)>,
    #[command(flatten)]
    output: out::Output,
}

/// `KEY=VALUE`, as people write settings.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a setting and its value are written KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// What is printed. The fields are stable.
#[derive(Serialize)]
struct Report {
    /// The number of the version; 0 if nobody has set anything.
    version: u64,
    /// Every value of every setting.
    settings: Vec<Shown>,
}

impl Args {
    /// Shows or sets.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let (version, settings, output) = match self.what {
            Some(What::Set(set)) => {
                let store = session.writer().await?;
                let (version, settings) = Settings::set(&store, &set.values, session.store_now(&store).await?).await?;
                (version, settings, set.output)
            }
            show => {
                let (version, settings) = Settings::load(&session.reader().await?).await?;
                let output = if let Some(What::Show(show)) = show { show.output } else { self.output };
                (version, settings, output)
            }
        };
        output.show(&Report { version, settings: settings.show() }, table)?;
        Ok(Exit::Done)
    }
}

fn table(report: &Report) -> String {
    let columns = [Column::Left("setting"), Column::Left("value"), Column::Left("from"), Column::Left("what it does")];
    let rows = report.settings.iter().map(|shown| {
        let from = shown.from.map_or_else(String::new, |hour| hour.to_string());
        let value = if shown.is_default { format!("{} (default)", shown.value) } else { shown.value.clone() };
        vec![shown.key.to_owned(), value, from, shown.explanation.to_owned()]
    });
    out::table(&columns, rows)
}

/// The settings of the configuration file as pairs, for a store that has none yet.
///
/// # Errors
/// A [`Mistake`] for a value that is no setting's.
pub fn pairs(table: &toml::Table) -> Result<Vec<(String, String)>> {
    let text = |key: &str, value: &toml::Value| match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(yes) => Ok(yes.to_string()),
        _ => Err(Mistake(format!("`settings.{key}` is to be a text, a number, or a list of texts"))),
    };
    let pairs = table.iter().map(|(key, value)| {
        let value = match value {
            toml::Value::Array(items) => {
                let items = items.iter().map(|item| text(key, item)).collect::<Result<Vec<_>, _>>()?;
                if key == "publish_command" { command_line(&items) } else { items.join(",") }
            }
            single => text(key, single)?,
        };
        Ok((key.clone(), value))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_file_are_written_as_on_the_command_line() {
        let table = "shards = 4\nkeep_for = '14d'\nredact_drop = ['a.*', 'b']\npublish_command = ['render', 'a b, c']";
        let table = table.parse().unwrap();
        let expected =
            [("keep_for", "14d"), ("publish_command", "render 'a b, c'"), ("redact_drop", "a.*,b"), ("shards", "4")];
        let owned: Vec<_> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut pairs = pairs(&table).unwrap();
        pairs.sort();
        assert_eq!(pairs, owned);
        assert!(super::pairs(&"shards = {}".parse().unwrap()).is_err());
    }
}
