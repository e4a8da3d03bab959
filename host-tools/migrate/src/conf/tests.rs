//! The language, by the examples of its manual page and its corners.

use super::*;

/// The statements as text: words in `[ ]`, blocks in `( )`.
fn shape(statements: &[Statement]) -> String {
    let one = |statement: &Statement| {
        let words = statement.words.join("|");
        match &statement.block {
            None => format!("[{words}]"),
            Some(block) => format!("[{words}]({})", shape(block)),
        }
    };
    statements.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn read_as(text: &str, id: Option<&str>) -> Result<String, String> {
    read(Path::new("k.conf"), text, id, &NoFiles)
        .map(|statements| shape(&statements))
        .map_err(|error| error.to_string())
}

#[test]
fn lines_words_and_blocks() {
    let table = [
        ("comments", "a b # c\n! d\ne!f", "[a|b] [e]"),
        ("a block", "a {\n b\n c d\n}\ne", "[a]([b] [c|d]) [e]"),
        ("its brace on the next line", "a x\n{\n b\n}", "[a|x]([b])"),
        (
            "all on one line",
            "a { b { c d } }\ne",
            "[a]([b]([c|d])) [e]",
        ),
        ("braces that touch", "a{\nb{c}\n}", "[a]([b]([c]))"),
        ("an empty block", "a {\n}", "[a]()"),
        (
            "quotes",
            r#"abcd" efg h jkl "mnop"#,
            "[abcd efg h jkl mnop]",
        ),
        (
            "quotes apart",
            r#"abcd "efg h jkl" mnop"#,
            "[abcd|efg h jkl|mnop]",
        ),
        (
            "quoted signs",
            r##"a "# { } !" 'b "c"'"##,
            "[a|# { } !|b \"c\"]",
        ),
        ("escapes", r#"a "\x41\102\\\"\cI.""#, "[a|AB\\\"\t.]"),
        ("an empty text", r#"a """#, "[a|]"),
        ("unknown parameters stay", "a ${B} $C", "[a|${B}|$C]"),
    ];
    for (name, text, expected) in table {
        assert_eq!(read_as(text, None).as_deref(), Ok(expected), "{name}");
    }
}

#[test]
fn definitions() {
    let base = "$BASE=10.2.${SUB}\n$SUB=0\n${BASE}.100/32\n$SUB=10\n${BASE}.100/32\n";
    assert_eq!(
        read_as(base, None).as_deref(),
        Ok("[10.2.0.100/32] [10.2.10.100/32]")
    );
    let blocks = "$I= \\\nv VI_${N} { \\\n  i eth0.${N} \\\n  @high p 130 \\\n  @low p 120 \\\n}\n$N=0\n$I\n$N=1\n$I\n";
    assert_eq!(
        read_as(blocks, Some("low")).as_deref(),
        Ok("[v|VI_0]([i|eth0.0] [p|120]) [v|VI_1]([i|eth0.1] [p|120])")
    );
    let nested = "$RS= \\\nr ${A}.${B} \\\n\n$VS= \\\nv ${A} { \\\n $B=1 \\\n $RS \\\n $B=2 \\\n $RS \\\n}\n$A=7\n$VS\n";
    assert_eq!(
        read_as(nested, None).as_deref(),
        Ok("[v|7]([r|7.1] [r|7.2])")
    );
    assert_eq!(
        read_as("a ${_HASH}b ${_BANG}", None).as_deref(),
        Ok("[a|#b|!]")
    );
}

#[test]
fn conditions() {
    let text = "@main a 1\n@backup a 2\n@^main b\nc\n$IF=@main\n$IF d\n";
    assert_eq!(read_as(text, Some("main")).as_deref(), Ok("[a|1] [c] [d]"));
    assert_eq!(
        read_as(text, Some("backup")).as_deref(),
        Ok("[a|2] [b] [c]")
    );
    let without = read_as(text, None);
    assert_eq!(
        without,
        Err("k.conf:2: `@backup` holds for one of backup, main only".to_owned())
    );
}

#[test]
fn faults_have_a_line() {
    let table = [
        (
            "a {\n b\n",
            "k.conf:1: the block that begins here has no end",
        ),
        ("a {\n}\n}\n", "k.conf:3: a `}` too many"),
        ("a\n\nb \"c\nd", "k.conf:3: a text in \" does not end"),
        ("{\n}\n", "k.conf:1: a block without a name"),
        (
            "a\n~SEQ(X, 1, 3) b ${X}",
            "k.conf:2: lines that are repeated by ~SEQ and ~LST are not read",
        ),
        (
            "$A=$A x\n$A",
            "k.conf:2: definitions or included files go round in a circle",
        ),
        (
            "include other.conf",
            "k.conf:1: cannot read the included `other.conf`: entity not found",
        ),
    ];
    for (text, message) in table {
        assert_eq!(read_as(text, None), Err(message.to_owned()), "{text}");
    }
}

#[test]
fn places_are_those_of_the_file() {
    let statements = read(Path::new("k.conf"), "\na {\n\n b\n}\n", None, &NoFiles);
    let statements = statements.expect("a good file");
    let places = [&statements[0], &statements[0].lines()[0]].map(|s| s.place.to_string());
    assert_eq!(places, ["k.conf:2", "k.conf:4"]);
}

/// Files in memory, the folder of each before its name.
struct Memory(&'static [(&'static str, &'static str)]);

impl Files for Memory {
    fn read(&self, folder: &Path, pattern: &str) -> io::Result<Vec<(PathBuf, String)>> {
        let path = folder.join(pattern);
        let (stem, wild) = match path.to_str().and_then(|path| path.strip_suffix('*')) {
            Some(stem) => (stem.to_owned(), true),
            None => (path.display().to_string(), false),
        };
        let found = self.0.iter().filter(|(name, _)| {
            if wild {
                name.strip_prefix(&stem)
                    .is_some_and(|rest| !rest.contains('/'))
            } else {
                *name == stem
            }
        });
        Ok(found.map(|(n, t)| (n.into(), (*t).to_owned())).collect())
    }
}

#[test]
fn included_files_are_read_where_they_stand() {
    let files = Memory(&[
        ("etc/conf.d/a.conf", "a\ninclude b/c.conf\n"),
        ("etc/conf.d/b/c.conf", "c ${_PWD}\n"),
    ]);
    let read = |text| {
        read(Path::new("etc/k.conf"), text, None, &files)
            .map(|statements| shape(&statements))
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        read("x\ninclude conf.d/*\ny\n").as_deref(),
        Ok("[x] [a] [c|etc/conf.d/b] [y]")
    );
    assert_eq!(read("include none/*\ny\n").as_deref(), Ok("[y]"));
    let missing = "etc/k.conf:1: no file is meant by the included `none/*`";
    assert_eq!(read("includea none/*\n"), Err(missing.to_owned()));
}
