//! Labels for a verified unit and for the ends of its cables: as a picture (SVG), as pages (PDF), and for label printers (ZPL).

use pdf_writer::{Content, Finish as _, Name, Pdf, Rect, Ref, Str};
use qrcode::{Color, EcLevel, QrCode, render::svg};

/// What is on a label: a heading, lines, and what a scanner reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// In large letters.
    pub heading: String,
    /// Below, in small ones.
    pub lines: Vec<String>,
    /// In the QR code.
    pub code: String,
}

/// Of one label, in millimetres.
const WIDTH: usize = 70;
const HEIGHT: usize = 36;
/// Of the code on it.
const CODE: usize = 24;
/// Dots of a label printer for a millimetre (203 dpi).
const DOTS: usize = 8;

/// A page of labels, one below the other, in millimetres: prints as it is.
///
/// # Errors
/// If the code's text is too long, in words.
pub fn svg(labels: &[Label]) -> Result<String, String> {
    let height = HEIGHT * labels.len();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}mm\" height=\"{height}mm\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\">\n"
    );
    for (index, label) in labels.iter().enumerate() {
        let top = index * HEIGHT;
        let code = coded(label)?;
        let modules = code.width();
        let path = picture(&code);
        text += &format!(
            "<rect x=\"0.5\" y=\"{}.5\" width=\"{}\" height=\"{}\" rx=\"2\" fill=\"white\" stroke=\"black\" stroke-width=\"0.2\"/>\n",
            top,
            WIDTH - 1,
            HEIGHT - 1
        );
        text += &format!(
            "<g transform=\"translate(43 {}) scale({:.4})\">{path}</g>\n",
            top + 6,
            CODE as f64 / modules as f64
        );
        text += &line(3.0, top as f64 + 9.0, 6.0, true, &label.heading);
        for (row, words) in label.lines.iter().enumerate() {
            let y = top as f64 + 14.0 + 4.0 * row as f64;
            text += &line(3.0, y, 2.9, false, words);
        }
    }
    text += "</svg>\n";
    Ok(text)
}

fn line(x: f64, y: f64, size: f64, bold: bool, words: &str) -> String {
    let weight = if bold { " font-weight=\"bold\"" } else { "" };
    format!(
        "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\"{weight}>{}</text>\n",
        escaped(words)
    )
}

fn escaped(words: &str) -> String {
    words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The dark modules of a code as one path, each a unit square.
fn picture(code: &QrCode) -> String {
    let whole = code
        .render::<svg::Color<'_>>()
        .quiet_zone(false)
        .module_dimensions(1, 1)
        .build();
    let path = whole
        .split_once("<path ")
        .and_then(|(_, rest)| rest.split_once("/>"));
    path.map_or(String::new(), |(path, _)| format!("<path {path}/>"))
}

/// The same as a document: a page of its size for each label.
///
/// # Errors
/// If the code's text is too long, in words.
pub fn pdf(labels: &[Label]) -> Result<Vec<u8>, String> {
    let mut pdf = Pdf::new();
    let mut last = 0;
    let mut id = || {
        last += 1;
        Ref::new(last)
    };
    let (catalog, tree) = (id(), id());
    let fonts = [(PLAIN, "Helvetica"), (BOLD, "Helvetica-Bold")].map(|font| (id(), font));
    let pages: Vec<(Ref, Ref)> = labels.iter().map(|_| (id(), id())).collect();
    pdf.catalog(catalog).pages(tree);
    let count = i32::try_from(pages.len()).map_err(|_| "too many labels".to_owned())?;
    pdf.pages(tree)
        .kids(pages.iter().map(|(page, _)| *page))
        .count(count);
    for (font, (_, name)) in fonts {
        // Every reader has them.
        pdf.type1_font(font)
            .base_font(Name(name.as_bytes()))
            .encoding_predefined(Name(b"WinAnsiEncoding"));
    }
    for (label, (page, content)) in labels.iter().zip(pages) {
        let mut page = pdf.page(page);
        page.media_box(Rect::new(
            0.0,
            0.0,
            points(WIDTH as f32),
            points(HEIGHT as f32),
        ));
        page.parent(tree).contents(content);
        let mut resources = page.resources();
        let mut known = resources.fonts();
        for (font, (name, _)) in fonts {
            known.pair(name, font);
        }
        known.finish();
        resources.finish();
        page.finish();
        pdf.stream(content, &drawn(label)?.finish());
    }
    Ok(pdf.finish())
}

const PLAIN: Name<'_> = Name(b"F1");
const BOLD: Name<'_> = Name(b"F2");

/// A page's content.
fn drawn(label: &Label) -> Result<Content, String> {
    let code = coded(label)?;
    let mut page = Content::new();
    let mut write = |font, size: f32, y: f32, words: &str| {
        page.begin_text();
        page.set_font(font, points(size));
        page.next_line(points(3.0), points(HEIGHT as f32 - y));
        page.show(Str(&in_win_ansi(words)));
        page.end_text();
    };
    write(BOLD, 6.0, 9.0, &label.heading);
    for (row, words) in label.lines.iter().enumerate() {
        write(PLAIN, 2.9, 14.0 + 4.0 * row as f32, words);
    }
    let width = code.width();
    let module = CODE as f32 / width as f32;
    for (index, color) in code.to_colors().into_iter().enumerate() {
        if color == Color::Dark {
            let (x, y) = ((index % width) as f32, (index / width + 1) as f32);
            page.rect(
                points(43.0 + module * x),
                points(HEIGHT as f32 - 6.0 - module * y),
                points(module),
                points(module),
            );
        }
    }
    page.fill_nonzero();
    Ok(page)
}

fn coded(label: &Label) -> Result<QrCode, String> {
    QrCode::with_error_correction_level(&label.code, EcLevel::M)
        .map_err(|error| format!("{}: {error}", label.heading))
}

fn points(millimetres: f32) -> f32 {
    millimetres * 72.0 / 25.4
}

/// In the encoding that readers have fonts for.
fn in_win_ansi(words: &str) -> Vec<u8> {
    let byte = |letter| match letter {
        '\u{2026}' => 0x85,
        ' '..='~' | '\u{a0}'..='\u{ff}' => letter as u8, // Latin-1, which this is there
        _ => b'?',
    };
    words.chars().map(byte).collect()
}

/// The same for label printers that speak ZPL.
#[must_use]
pub fn zpl(labels: &[Label]) -> String {
    let mut text = String::new();
    for label in labels {
        text += &format!("^XA^CI28^PW{}^LL{}\n", WIDTH * DOTS, HEIGHT * DOTS);
        text += &format!("^FO24,24^A0N,48,48^FD{}^FS\n", plain(&label.heading));
        for (row, words) in label.lines.iter().enumerate() {
            let y = 88 + 32 * row;
            text += &format!("^FO24,{y}^A0N,24,24^FD{}^FS\n", plain(words));
        }
        text += &format!("^FO344,40^BQN,2,4^FDMA,{}^FS\n^XZ\n", plain(&label.code));
    }
    text
}

/// Without what would be a command.
fn plain(words: &str) -> String {
    words.replace(['^', '~'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> Label {
        Label {
            heading: "gw1 <&>".to_owned(),
            lines: vec!["wan ^FS 02:00".to_owned(), "lan".to_owned()],
            code: "ravelin:foobar/gw1?serial=RV-00C0FFEE".to_owned(),
        }
    }

    #[test]
    fn words_cannot_be_commands() {
        let zpl = zpl(&[label()]);
        assert!(zpl.contains("^FDwan -FS 02:00^FS"), "{zpl}");
        assert_eq!(zpl.matches("^XA").count(), 1);
        let svg = svg(&[label()]).unwrap();
        assert!(svg.contains(">gw1 &lt;&amp;&gt;</text>"), "{svg}");
    }

    #[test]
    fn each_label_is_a_page_with_words_and_code() {
        let mut odd = label();
        odd.heading = "gw1 (\u{b7}\u{2026}\u{1f600})".to_owned();
        let pdf = pdf(&[label(), odd]).unwrap();
        let has = |wanted: &[u8]| {
            let found = pdf.windows(wanted.len()).filter(|piece| *piece == wanted);
            found.count()
        };
        assert!(pdf.starts_with(b"%PDF-1."), "{}", pdf.escape_ascii());
        assert_eq!(has(b"/Type /Page\n"), 2);
        assert_eq!(has(b"(lan) Tj"), 2);
        // In WinAnsiEncoding; what is no ASCII comes in digits.
        assert_eq!(has(b"<6777312028B7853F29> Tj"), 1);
        let dark = coded(&label()).unwrap().to_colors();
        let dark = dark.iter().filter(|color| **color == Color::Dark).count();
        assert_eq!(has(b" re\n"), 2 * dark);
    }

    #[test]
    fn the_picture_has_every_dark_module_of_the_code() {
        let svg = svg(&[label(), label()]).unwrap();
        let code = QrCode::with_error_correction_level(label().code, EcLevel::M).unwrap();
        let dark = code
            .to_colors()
            .iter()
            .filter(|color| **color == Color::Dark)
            .count();
        // A square of the path is `M0 0h1v1H0V0`.
        assert_eq!(svg.matches("h1v1").count(), 2 * dark);
        assert_eq!(svg.matches("<text").count(), 2 * 3);
    }
}
