//! Canonical routes, and templates of names that are really paths.
