//! What commands print: for people on a terminal, plain in a pipe, JSON for programs.

use std::io::{self, IsTerminal, Write};

use clap::builder::BoolishValueParser;
use comfy_table::{ContentArrangement, Table, TableStyle};
use serde::Serialize;

use crate::error::{Result, ResultExt};

/// `-o`, for commands that print one thing two ways.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct Output {
    /// `text` for people, or `json` with documented, stable fields
    #[arg(
        short,
        long = "output",
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        env = "TRACEFARM_OUTPUT",
        hide_env_values = true
    )]
    output: Format,
}

/// The two ways.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Tables: coloured and fitted to a terminal, plain in a pipe
    #[default]
    Text,
    /// One JSON document
    Json,
}

impl Output {
    /// Whether programs read it.
    pub fn is_json(self) -> bool {
        self.output == Format::Json
    }

    /// Prints `value` as JSON, or what `text` makes of it.
    pub fn show<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        if self.is_json() { json(value) } else { print(&text(value)) }
    }
}

/// Prints `text` and a line end (unless it has one) to standard output.
///
/// # Errors
/// If standard output is closed; a pipe whose reader went away ends the program quietly ([`super::run()`]).
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(end.as_bytes()))
        .and_then(|()| out.flush())
        .context("write to standard output")?;
    Ok(())
}

/// Writes `screen` to the terminal as it is.
///
/// # Errors
/// If standard output is closed.
pub fn draw(screen: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(screen.as_bytes()).and_then(|()| out.flush()).context("write to standard output")?;
    Ok(())
}

/// Prints `value` as indented JSON.
pub fn json<T: Serialize>(value: &T) -> Result<()> {
    print(&serde_json::to_string_pretty(value).context("write JSON")?)
}

/// Whether colours and fitting make sense: a terminal that did not ask to be spared (<https://no-color.org>).
pub fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// How large the terminal is, as (columns, rows); none in a pipe.
pub fn terminal() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    // Some pseudo-terminals do not know.
    (size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// `text` behind a `label` of [`LABEL`] columns, in lines that fit into `width` columns.
pub fn labelled(label: &str, text: &str, width: Option<usize>) -> String {
    let width = width.unwrap_or(usize::MAX).max(LABEL * 2);
    let mut lines = String::new();
    let mut line = format!("{label:<LABEL$}");
    let mut length = line.chars().count();
    let mut is_empty = true;
    for word in text.split(' ') {
        let more = word.chars().count();
        if !is_empty && length + 1 + more > width {
            lines += line.trim_end();
            lines.push('\n');
            (line, length, is_empty) = (" ".repeat(LABEL), LABEL, true);
        }
        if !is_empty {
            line.push(' ');
            length += 1;
        }
        line += word;
        length += more;
        is_empty = false;
    }
    lines + line.trim_end() + "\n"
}

/// The width of labels.
const LABEL: usize = 12;

/// Which way a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Words.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

/// A table: fitted to the terminal's width, or as wide as it must be in a pipe, with two spaces between the columns.
pub fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.force_no_tty();
    }
    let names = columns.iter().map(|(Column::Left(name) | Column::Right(name))| {
        let cell = comfy_table::Cell::new(name.to_uppercase());
        if colours() { cell.add_attribute(comfy_table::Attribute::Bold) } else { cell }
    });
    table.set_header(names);
    for (place, column) in columns.iter().enumerate() {
        if let Some(shape) = table.column_mut(place) {
            shape.set_padding((0, if place + 1 == columns.len() { 0 } else { 2 }));
            if matches!(column, Column::Right(_)) {
                shape.set_cell_alignment(comfy_table::CellAlignment::Right);
            }
        }
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Text from traces is hostile: control characters (escape sequences among them) are shown, not obeyed.
pub fn printable(text: &str) -> String {
    let is_bad = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if is_bad(c) { '\u{fffd}' } else { c }).collect()
}

/// Bold on a terminal.
pub fn bold(text: &str) -> String {
    styled(text, "1")
}

/// Grey on a terminal.
pub fn dim(text: &str) -> String {
    styled(text, "2")
}

/// Red on a terminal.
pub fn red(text: &str) -> String {
    styled(text, "31")
}

fn styled(text: &str, code: &str) -> String {
    if colours() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// US dollars, to the precision that there is.
pub fn dollars(dollars: f64) -> String {
    let digits = if dollars >= 1.0 { 2 } else { 6 };
    format!("${dollars:.digits$}")
}

/// A duration as people read it: three digits and a unit, eg `12.3 ms`.
pub fn duration(ns: i64) -> String {
    let value = ns as f64;
    let (value, unit) = match ns.unsigned_abs() {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (value / 1e3, "µs"),
        1_000_000..1_000_000_000 => (value / 1e6, "ms"),
        1_000_000_000..120_000_000_000 => (value / 1e9, "s"),
        120_000_000_000..7_200_000_000_000 => (value / 60e9, "min"),
        _ => (value / 3600e9, "h"),
    };
    let digits = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// Bytes as people read them, eg `1.2 MiB`.
pub fn bytes(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

/// `1 span`, `1,234 spans`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A number with its thousands apart, eg `114,449`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.extend(group.iter().map(|digit| *digit as char));
    }
    text
}

/// A moment in UTC, to the second, eg `2026-11-22 01:17:50`.
pub fn moment(ns: i64) -> String {
    match jiff::Timestamp::from_nanosecond(ns.into()) {
        Ok(time) => time.strftime("%F %T").to_string(),
        Err(_) => ns.to_string(),
    }
}

/// How flags read their environment variables: `1`, `true`, `yes`, `on` and their opposites.
pub fn boolish() -> BoolishValueParser {
    BoolishValueParser::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 12, 999, 1_000, 114_449, 1_000_000].map(count),
            ["0", "12", "999", "1,000", "114,449", "1,000,000"]
        );
        assert_eq!(
            [0, 999, 1_500, 12_345_678, 99_000_000_000, 150_000_000_000, 8_000_000_000_000, -2_700_000_000]
                .map(duration),
            ["0 ns", "999 ns", "1.50 µs", "12.3 ms", "99.0 s", "2.50 min", "2.22 h", "-2.70 s"]
        );
        assert_eq!(moment(1_795_310_270_000_000_000), "2026-11-22 01:17:50");
    }

    #[test]
    fn labelled_text_wraps_at_words_and_never_loses_one() {
        let text = "compacted 12 (3 MiB); as indexed none; 4 to merge";
        assert_eq!(labelled("spans", text, None), format!("spans       {text}\n"));
        insta::assert_snapshot!(labelled("spans", text, Some(34)), @r"
        spans       compacted 12 (3 MiB);
                    as indexed none; 4 to
                    merge
        ");
        let long = "x".repeat(100);
        assert_eq!(labelled("", &long, Some(20)), format!("{}{long}\n", " ".repeat(12)));
    }

    #[test]
    fn a_table_in_a_pipe_is_plain_and_harmless() {
        let rows =
            [vec!["GET /".to_owned(), "7".to_owned()], vec!["\u{1b}[31m\u{202e}evil".to_owned(), "12".to_owned()]];
        insta::assert_snapshot!(table(&[Column::Left("name"), Column::Right("count")], rows), @"
        NAME        COUNT
        GET /           7
        �[31m�evil     12
        ");
    }
}
