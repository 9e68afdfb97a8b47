//! `tracefarm lifecycle`: rules with which the bucket itself deletes what the farm no longer needs, should the farm
//! stand still.
//!
//! A rule can say age and prefix, but never "not the last ten": so the farm pins first, and the rules come two weeks
//! after `keep_for`. A farm that stands still for less than that loses nothing that it promised.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Exit, Session, out};
use crate::error::{Mistake, Result};
use crate::farm::settings::{Settings, Span};
use crate::model::Table;
use crate::store::Prefix;

/// How long after `keep_for` a bucket's rule takes the entries; the spans a day later, as the farm does it.
const MARGIN_DAYS: u64 = 14;

/// Print a bucket's own rules that delete what is past
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Whose rules
    #[arg(value_enum)]
    cloud: Cloud,
    /// How long the farm keeps everything [default: as the store's settings say, else 7d]
    #[arg(long, value_name = "TIME", value_parser = super::span, env = "TRACEFARM_KEEP_FOR", hide_env_values = true)]
    keep_for: Option<Span>,
    /// Also delete unreadable input after so many days [default: never]
    #[arg(long, value_name = "DAYS", env = "TRACEFARM_QUARANTINE_DAYS", hide_env_values = true)]
    quarantine_days: Option<u64>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Cloud {
    /// Google Cloud Storage
    Gcs,
    /// Amazon S3 and what speaks its language
    S3,
    /// Azure Blob Storage
    Azure,
}

impl Args {
    /// Prints the rules to standard output, and what else the bucket needs to standard error.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let keep_for = match (self.keep_for, session.store_url()) {
            (Some(keep_for), _) => keep_for,
            (None, Some(_)) => longest(&Settings::load(&session.reader().await?).await?.1),
            (None, None) => longest(&Settings::default()),
        };
        let place = Place::of(session.store_url().unwrap_or_default());
        if self.cloud == Cloud::Azure && place.bucket.is_empty() {
            let sentence = "Azure's rules name the container: say which with --store az://CONTAINER/PREFIX";
            return Err(Mistake(sentence.to_owned()).into());
        }
        let rules = rules(self.cloud, &place, keep_for.0, self.quarantine_days);
        out::json(&rules)?;
        advise(advice(self.cloud));
        Ok(Exit::Done)
    }
}

fn longest(settings: &Settings) -> Span {
    settings
        .keep_for
        .changes()
        .iter()
        .map(|change| change.value)
        .max()
        .unwrap_or(*settings.keep_for.at(crate::model::Hour::EPOCH))
}

/// The bucket and the prefix in it.
struct Place {
    bucket: String,
    prefix: String,
}

impl Place {
    fn of(url: &str) -> Self {
        let (bucket, prefix) = match url.split_once("://") {
            Some((_, rest)) => rest.split_once('/').unwrap_or((rest, "")),
            None => ("", ""),
        };
        let prefix = prefix.trim_matches('/');
        let end = if prefix.is_empty() { "" } else { "/" };
        Self { bucket: bucket.to_owned(), prefix: format!("{prefix}{end}") }
    }
}

fn rules(cloud: Cloud, place: &Place, keep_for: Duration, quarantine_days: Option<u64>) -> Value {
    let days = keep_for.as_secs().div_ceil(24 * 3600) + MARGIN_DAYS;
    let mut deletes = vec![
        ("entries", Prefix::Table(Table::Entries), days),
        // After the entries, as the farm does it: a span without an entry is of no harm, an entry without spans is.
        ("spans", Prefix::Table(Table::Spans), days + 1),
    ];
    deletes.extend(quarantine_days.map(|days| ("quarantine", Prefix::Quarantine, days)));
    let deletes =
        deletes.into_iter().map(|(name, prefix, days)| (name, format!("{}{}", place.prefix, prefix.path()), days));
    match cloud {
        Cloud::Gcs => {
            let delete = |(_, prefix, days)| json!({ "action": { "type": "Delete" }, "condition": { "age": days, "matchesPrefix": [prefix] } });
            let uploads = json!({ "action": { "type": "AbortIncompleteMultipartUpload" }, "condition": { "age": 1 } });
            json!({ "lifecycle": { "rule": deletes.map(delete).chain([uploads]).collect::<Vec<_>>() } })
        }
        Cloud::S3 => {
            let delete = |(name, prefix, days)| {
                json!({
                    "ID": format!("tracefarm-{name}"), "Status": "Enabled",
                    "Filter": { "Prefix": prefix }, "Expiration": { "Days": days },
                })
            };
            let uploads = json!({
                "ID": "tracefarm-uploads", "Status": "Enabled", "Filter": { "Prefix": place.prefix },
                "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": 1 },
            });
            json!({ "Rules": deletes.map(delete).chain([uploads]).collect::<Vec<_>>() })
        }
        Cloud::Azure => {
            let delete = |(name, prefix, days)| {
                json!({
                    "name": format!("tracefarm-{name}"), "type": "Lifecycle", "enabled": true,
                    "definition": {
                        "filters": { "blobTypes": ["blockBlob"], "prefixMatch": [format!("{}/{prefix}", place.bucket)] },
                        "actions": { "baseBlob": { "delete": { "daysAfterModificationGreaterThan": days } } },
                    },
                })
            };
            json!({ "rules": deletes.map(delete).collect::<Vec<_>>() })
        }
    }
}

fn advice(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Gcs => {
            "Apply with: gcloud storage buckets update gs://BUCKET --lifecycle-file=FILE\n\
             Also switch soft delete off for this bucket (--clear-soft-delete), or every deleted block is billed for \
             another week."
        }
        Cloud::S3 => {
            "Apply with: aws s3api put-bucket-lifecycle-configuration --bucket BUCKET --lifecycle-configuration \
             file://FILE\n\
             It replaces the bucket's rules: add the ones that are there. With versioning, deleted blocks live on as old \
             versions: leave it off for this bucket, or add NoncurrentVersionExpiration."
        }
        Cloud::Azure => {
            "Apply with: az storage account management-policy create --account-name ACCOUNT --resource-group GROUP \
             --policy @FILE\n\
             It replaces the account's policy: add the rules that are there. Blob soft delete and versioning of the \
             account keep deleted blocks; Azure drops unfinished uploads after a week by itself."
        }
    }
}

#[expect(clippy::print_stderr, reason = "standard output holds the rules alone, so that they can go into a file")]
fn advise(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(cloud: Cloud, url: &str) -> Value {
        rules(cloud, &Place::of(url), Duration::from_secs(7 * 24 * 3600), Some(90))
    }

    #[test]
    fn the_rules_come_two_weeks_after_the_farm_and_spans_after_entries() {
        let gcs = printed(Cloud::Gcs, "gs://traces/shop/");
        let delete = |age: u64, prefix: &str| json!({ "action": { "type": "Delete" }, "condition": { "age": age, "matchesPrefix": [prefix] } });
        let rule = &gcs["lifecycle"]["rule"];
        assert_eq!(rule[0], delete(21, "shop/entries/"));
        assert_eq!(rule[1], delete(22, "shop/spans/"));
        assert_eq!(rule[2], delete(90, "shop/quarantine/"));
        assert_eq!(rule[3]["action"]["type"], "AbortIncompleteMultipartUpload");

        let s3 = printed(Cloud::S3, "s3://traces");
        assert_eq!(s3["Rules"][0]["Filter"], json!({ "Prefix": "entries/" }));
        assert_eq!(s3["Rules"][0]["Expiration"], json!({ "Days": 21 }));

        let azure = printed(Cloud::Azure, "az://traces/shop");
        assert_eq!(azure["rules"][1]["definition"]["filters"]["prefixMatch"], json!(["traces/shop/spans/"]));
    }
}
