//! The parameters of a request: `?name=value&…`, names maybe repeated.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::failure::Failure;

/// What stands behind the question mark.
#[derive(Clone, Debug, Default)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// The first value of `name`; an empty one is none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// The first value of whichever of `names` has one.
    pub fn get_any<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &str)> {
        names.iter().find_map(|name| Some((*name, self.get(name)?)))
    }

    /// Every value of `name`.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name`, parsed.
    ///
    /// # Errors
    /// A mistake that names it.
    pub fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Failure> {
        let parse = |text: &str| text.parse().map_err(|why| Failure::mistake(format!("`{name}`: {why}")));
        self.get(name).map(parse).transpose()
    }

    /// Whether `name` is set: `true` or `1`, or alone.
    ///
    /// # Errors
    /// If it is anything else than yes or no.
    pub fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.all(name).next() {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(other) => Err(Failure::mistake(format!("`{name}` is true or false, not `{other}`"))),
        }
    }

    /// A mistake if there is a name that is none of `known`: a typing error must not become a default.
    ///
    /// # Errors
    /// See above.
    pub fn only(&self, known: &[&str]) -> Result<(), Failure> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(Failure::mistake(format!("there is no `{name}`; there are {}", known.join(", ")))),
            None => Ok(()),
        }
    }
}

impl From<&str> for Parameters {
    fn from(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }
}

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::from(parts.uri.query().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_be_repeated_and_values_are_decoded() {
        let parameters = Parameters::from("a=1&b=x%20y+z&a=2&empty=&on");
        assert_eq!(parameters.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((parameters.get("b"), parameters.get("empty"), parameters.get("no")), (Some("x y z"), None, None));
        assert_eq!(parameters.parsed::<u32>("a").unwrap(), Some(1));
        assert!(parameters.parsed::<u32>("b").is_err());
        assert!(parameters.flag("on").unwrap() && !parameters.flag("no").unwrap() && parameters.flag("b").is_err());
        assert!(parameters.only(&["a", "b", "empty", "on"]).is_ok());
        assert_eq!(parameters.only(&["a"]).unwrap_err().message, "there is no `b`; there are a");
    }
}
