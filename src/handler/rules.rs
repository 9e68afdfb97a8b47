//! The table of rules, the first that applies counts.
