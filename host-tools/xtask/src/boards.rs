//! Builds of the boards: their sizes, and the firmware's libraries without std. And that nobody else knows boards by name.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// Builds the firmware of every board, or of those that are named, and prints its sizes beside its limits.
pub fn build(root: &Path, names: &[String]) -> Result<(), String> {
    println!(
        "{:<16} {:>22} {:>24} {:>24}",
        "board", "flash (limit)", "RAM (limit)", "stack (needs)"
    );
    let mut faults = Vec::new();
    let names = match names {
        [] => build::boards(root),
        named => named.to_vec(),
    };
    for name in names {
        match build::program(root, &name, &name) {
            Ok(firmware) => {
                let (size, budget) = (firmware.size, firmware.board.budget);
                let pair = |used: u64, limit: u64| format!("{used} ({limit})");
                println!(
                    "{name:<16} {:>22} {:>24} {:>24}",
                    pair(size.flash, budget.flash),
                    pair(size.ram, budget.ram),
                    pair(size.stack, budget.stack)
                );
            }
            Err(error) => faults.push(format!("{error}")),
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("\n"))
    }
}

/// Builds every library under `firmware/` for the processor of every board: none of them may need std.
pub fn libraries(root: &Path) -> Result<(), String> {
    for name in build::boards(root) {
        build::libraries(root, &name).map_err(|error| error.to_string())?;
        println!("built for {name}");
    }
    Ok(())
}

/// Packages that build for their own processor only.
pub fn bare_metal_packages(root: &Path) -> Vec<String> {
    build::boards(root)
        .into_iter()
        .map(|name| format!("ravelin-board-{name}"))
        .collect()
}

/// Fails if code that all boards share names one: then a new board would be more than a new folder.
pub fn unnamed(root: &Path) -> Result<(), String> {
    let names = build::boards(root);
    let mut files = vec![root.join("ravelin"), root.join("Cargo.toml")];
    for shared in ["firmware", "host-tools", "image"] {
        collect(&root.join(shared), &mut files).map_err(|error| format!("{shared}: {error}"))?;
    }
    let read = |file: PathBuf| match fs::read_to_string(&file) {
        Ok(text) => Ok((file, text)),
        Err(error) => Err(format!("{}: {error}", file.display())),
    };
    let files: Vec<(PathBuf, String)> = files.into_iter().map(read).collect::<Result<_, _>>()?;
    let of_tests: BTreeSet<PathBuf> = (files.iter())
        .flat_map(|(file, text)| of_tests(text).map(|name| file.with_file_name(name)))
        .collect();
    let mut faults = Vec::new();
    for (file, text) in files.iter().filter(|(file, _)| !of_tests.contains(file)) {
        let place = file.strip_prefix(root).unwrap_or(file).display();
        let found = named(text, &names);
        faults.extend(found.map(|(line, name)| {
            format!("{place}:{line} names the board {name}: find it by its board.toml")
        }));
    }
    if faults.is_empty() {
        println!("{} shared files name no board", files.len());
        return Ok(());
    }
    Err(faults.join("\n"))
}

/// Lines that name a board, before the tests of the file.
fn named<'a>(text: &'a str, names: &'a [String]) -> impl Iterator<Item = (usize, &'a String)> {
    let begins = ["mod", "pub(crate) mod"].map(|word| format!("#[cfg(test)]\n{word} tests {{"));
    let end = begins.iter().filter_map(|begin| text.find(begin)).min();
    let code = &text[..end.unwrap_or(text.len())];
    (1..).zip(code.lines()).flat_map(move |(number, line)| {
        let in_line = names
            .iter()
            .filter(move |name| line.contains(name.as_str()));
        in_line.map(move |name| (number, name))
    })
}

/// Files beside this one that only its tests have.
fn of_tests(text: &str) -> impl Iterator<Item = String> {
    let mentions = text.split("#[cfg(test)]\nmod ").skip(1);
    mentions.filter_map(|rest| {
        let (name, _) = rest.split_once(';')?;
        (!name.contains('\n')).then(|| format!("{name}.rs"))
    })
}

/// Sources below a folder, but no tests.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let ends = |endings: &[&str]| {
            let extension = path.extension().unwrap_or_default();
            endings.iter().any(|ending| extension == *ending)
        };
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if ends(&["rs", "toml", "tsv", "sh"]) {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_code_names_no_board() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        unnamed(&root).unwrap();
        // And what is looked for would be found, but in tests.
        let names = build::boards(&root);
        let board = names.first().expect("a board");
        let text = format!("one\nif board == \"{board}\" {{\n#[cfg(test)]\nmod tests {{\n{board}");
        let found: Vec<_> = named(&text, &names).collect();
        assert_eq!(found, [(2, board)]);
    }
}
