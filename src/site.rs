//! The pages that people see: static files that read the JSON of `site/` in the browser. They are part of the program;
//! [`crate::stage::publish`] uploads them beside the documents, and a server of one's own may serve them.
//!
//! `site/index.html` names the files by the folder `assets/<version>/`, where the version is a hash of them all: files of
//! two versions never mix in a browser's cache, and a page that is open goes on while a farm is updated.
//!
//! Their code is in `src/site/`: no build step, what stands there is what browsers run. (Cargo notices a changed file, but
//! not a new one: touch this file then.)

use std::sync::LazyLock;

use bytes::Bytes;
use include_dir::{Dir, include_dir};
use xxhash_rust::xxh3::Xxh3;

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/site/assets");

const INDEX: &str = include_str!("site/index.html");

/// Where the files are, as `index.html` in the repository says it.
const FOLDER: &str = "assets/";

/// Where in `index.html` the modules are asked for, all at once: a browser that finds out one by one what it needs asks in
/// half a dozen turns.
const MODULES: &str = "<!-- modules -->";

static SITE: LazyLock<Site> = LazyLock::new(Site::new);

/// The files of the pages.
pub struct Site {
    /// A hash of all files.
    pub version: u64,
    /// `index.html`, which names the others.
    pub index: Bytes,
    /// The others, sorted by name.
    pub assets: Vec<Asset>,
}

/// A file of the pages.
pub struct Asset {
    /// Its name below `assets/<version>/`, eg `trace/tree.js`.
    pub name: &'static str,
    /// What is in it.
    pub body: &'static [u8],
}

impl Site {
    /// The pages of this program.
    pub fn of_this_program() -> &'static Self {
        &SITE
    }

    fn new() -> Self {
        let mut assets = Vec::new();
        collect(&FILES, &mut assets);
        assets.sort_unstable_by_key(|asset| asset.name);
        let mut hash = Xxh3::new();
        let named = assets.iter().map(|asset| (asset.name, asset.body)).chain([("index.html", INDEX.as_bytes())]);
        for (name, body) in named {
            for part in [name.as_bytes(), body] {
                hash.update(&(part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        let version = hash.digest();
        let modules = assets.iter().filter(|asset| asset.name.ends_with(".js"));
        let links = modules.map(|asset| format!("<link rel=\"modulepreload\" href=\"{FOLDER}{}\">", asset.name));
        let index = INDEX.replace(MODULES, &links.collect::<Vec<_>>().join("\n    "));
        let index = index.replace(&format!("=\"{FOLDER}"), &format!("=\"{FOLDER}{version:016x}/"));
        Self { version, index: index.into(), assets }
    }
}

/// The files of a folder and of those in it; what only the type checker reads stays behind.
fn collect(folder: &'static Dir<'_>, assets: &mut Vec<Asset>) {
    for file in folder.files() {
        // The paths are those in the repository.
        let Some(name) = file.path().to_str() else { continue };
        if !name.ends_with(".d.ts") {
            assets.push(Asset { name, body: file.contents() });
        }
    }
    for folder in folder.dirs() {
        collect(folder, assets);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_index_names_files_that_are_there_and_no_other_version() {
        let site = Site::of_this_program();
        let index = std::str::from_utf8(&site.index).unwrap();
        let names: BTreeSet<&str> = site.assets.iter().map(|asset| asset.name).collect();
        let folder = format!("{FOLDER}{:016x}/", site.version);
        let named: Vec<&str> = index.split('"').filter_map(|part| part.strip_prefix(FOLDER)).collect();
        assert!(named.len() > 4, "{named:?}");
        for name in named {
            let name = name.strip_prefix(folder.strip_prefix(FOLDER).unwrap());
            assert!(name.is_some_and(|name| names.contains(name)), "{name:?}");
        }
    }

    #[test]
    fn the_index_asks_for_every_file_at_once() {
        let site = Site::of_this_program();
        let index = std::str::from_utf8(&site.index).unwrap();
        for name in site.assets.iter().map(|asset| asset.name).filter(|name| !name.ends_with("LICENSE")) {
            assert!(index.contains(&format!("\"{FOLDER}{:016x}/{name}\"", site.version)), "{name}");
        }
    }

    #[test]
    fn the_licence_of_what_is_not_ours_goes_with_it() {
        let site = Site::of_this_program();
        let vendored: Vec<&str> =
            site.assets.iter().map(|asset| asset.name).filter(|name| name.starts_with("vendor/")).collect();
        assert_eq!(vendored, ["vendor/uplot/LICENSE", "vendor/uplot/uPlot.esm.js", "vendor/uplot/uPlot.min.css"]);
    }

    #[test]
    fn the_pages_forbid_what_a_trace_could_ask_for() {
        let index = INDEX;
        for part in
            ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "base-uri 'none'"]
        {
            assert!(index.contains(part), "{part}");
        }
        for forbidden in ["unsafe-", "http://", "https://", "<style", "onclick", "<script>"] {
            assert!(!index.contains(forbidden), "{forbidden}");
        }
    }
}
