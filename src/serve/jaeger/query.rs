//! What Jaeger's clients ask for.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::duration::Duration;
use crate::model::TraceId;
use crate::query::spans::Wanted;
use crate::serve::failure::Failure;
use crate::serve::parameters::Parameters;

/// How many traces are told at most by their ids.
pub const MOST_IDS: usize = 100;

/// How many traces a search tells if nobody says how many.
const LIMIT: usize = 100;

/// How many it tells at most, as in Jaeger's interface.
const MOST: usize = 1_500;

/// How far back a search looks if nobody says.
const LOOKBACK: SignedDuration = SignedDuration::from_hours(48);

/// A trace's id as Jaeger takes it: up to 32 hexadecimal digits, zeros in front left out.
pub fn trace_id(text: &str) -> Result<TraceId, Failure> {
    let wrong = || Failure::mistake("cannot parse traceID param: a trace's id has at most 32 hexadecimal digits");
    if text.is_empty() || text.len() > 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let number = u128::from_str_radix(text, 16).map_err(|_| wrong())?;
    Ok(TraceId(number.to_be_bytes()))
}

/// What `/api/traces` searches for.
pub fn wanted(parameters: &Parameters, now: Timestamp) -> Result<Wanted, Failure> {
    let service = parameters.get("service").ok_or_else(|| Failure::mistake("parameter 'service' is required"))?;
    let micros = |name: &str, default: Timestamp| -> Result<i64, Failure> {
        let micros: Option<i64> = parameters.parsed(name)?;
        Ok(micros.map_or_else(|| nanos(default), |micros| micros.saturating_mul(1_000)))
    };
    Wanted {
        service: Some(service.to_owned()),
        operation: parameters.get("operation").map(str::to_owned),
        attributes: tags(parameters)?,
        since_ns: micros("start", now.saturating_sub(LOOKBACK).unwrap_or(Timestamp::MIN))?,
        until_ns: micros("end", now)?,
        min_duration_ns: length(parameters, "minDuration")?,
        max_duration_ns: length(parameters, "maxDuration")?,
        limit: limit(parameters.parsed("limit")?)?,
    }
    .checked()
}

/// A time in nanoseconds since 1970.
pub fn nanos(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(if time < Timestamp::UNIX_EPOCH { i64::MIN } else { i64::MAX })
}

/// A duration in nanoseconds; zero is none.
pub fn length(parameters: &Parameters, name: &str) -> Result<Option<i64>, Failure> {
    let length: Option<Duration> = parameters.parsed(name)?;
    Ok(length.map(Duration::nanos).filter(|nanos| *nanos > 0))
}

/// How many traces a search tells.
pub fn limit(said: Option<i64>) -> Result<usize, Failure> {
    match said {
        None => Ok(LIMIT),
        Some(said) if said > 0 => Ok(usize::try_from(said).unwrap_or(MOST).min(MOST)),
        Some(_) => Err(Failure::mistake("the limit is at least 1")),
    }
}

impl Wanted {
    /// # Errors
    /// If no span can fit.
    pub fn checked(self) -> Result<Self, Failure> {
        if let (Some(least), Some(most)) = (self.min_duration_ns, self.max_duration_ns)
            && most < least
        {
            return Err(Failure::mistake("'maxDuration' should be greater than 'minDuration'"));
        }
        Ok(self)
    }
}

/// `tag=key:value` and `tags={"key":"value"}`.
fn tags(parameters: &Parameters) -> Result<Vec<(String, String)>, Failure> {
    let mut tags = BTreeMap::new();
    for tag in parameters.all("tag") {
        let (key, value) = tag.split_once(':').ok_or_else(|| {
            Failure::mistake(format!("malformed 'tag' parameter, expecting key:value, received: {tag}"))
        })?;
        tags.insert(key.to_owned(), value.to_owned());
    }
    for json in parameters.all("tags") {
        tags.extend(
            object(json)
                .map_err(|why| Failure::mistake(format!("malformed 'tags' parameter, cannot unmarshal JSON: {why}")))?,
        );
    }
    Ok(tags.into_iter().collect())
}

/// A JSON object of strings.
pub fn object(json: &str) -> Result<BTreeMap<String, String>, serde_json::Error> {
    serde_json::from_str(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_310_700).unwrap()
    }

    fn of(query: &str) -> Result<Wanted, String> {
        wanted(&Parameters::from(query), now()).map_err(|failure| failure.message)
    }

    #[test]
    fn a_search_is_read_as_jaegers_interface_sends_it() {
        let wanted = of("end=1795310700000000&limit=20&lookback=1h&maxDuration=1.2s&minDuration=100ms&operation=GET%20%2F&service=web&start=1795307100000000&tags=%7B%22http.status_code%22%3A%22500%22%7D&tag=a%3Ab%3Ac").unwrap();
        assert_eq!((wanted.service.as_deref(), wanted.operation.as_deref()), (Some("web"), Some("GET /")));
        assert_eq!((wanted.since_ns, wanted.until_ns), (1_795_307_100_000_000_000, 1_795_310_700_000_000_000));
        assert_eq!((wanted.min_duration_ns, wanted.max_duration_ns), (Some(100_000_000), Some(1_200_000_000)));
        let tags: Vec<_> = wanted.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!((tags, wanted.limit), (vec![("a", "b:c"), ("http.status_code", "500")], 20));

        let wanted = of("service=web").unwrap();
        assert_eq!((wanted.since_ns, wanted.until_ns), (nanos(now()) - 172_800_000_000_000, nanos(now())));
        assert_eq!((wanted.limit, of("service=web&limit=100000").unwrap().limit), (100, 1_500));
    }

    #[test]
    fn mistakes_are_told() {
        for (query, part) in [
            ("", "'service' is required"),
            ("service=web&start=yesterday", "`start`"),
            ("service=web&limit=0", "at least 1"),
            ("service=web&limit=x", "`limit`"),
            ("service=web&minDuration=1", "`minDuration`"),
            ("service=web&minDuration=2s&maxDuration=1s", "'maxDuration'"),
            ("service=web&tags=x", "malformed 'tags'"),
            ("service=web&tags={\"a\":1}", "malformed 'tags'"),
            ("service=web&tag=x", "malformed 'tag'"),
        ] {
            assert!(of(query).unwrap_err().contains(part), "{query}");
        }
        assert_eq!(trace_id("1").unwrap().to_string(), "00000000000000000000000000000001");
        for id in ["", "x", "+1", "123456789012345678901234567890123"] {
            assert!(trace_id(id).is_err(), "{id}");
        }
    }
}
