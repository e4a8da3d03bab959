//! Labels for a verified unit and for the ends of its cables: as a picture (SVG, one per label) and for label printers (ZPL).

use qrcode::{EcLevel, QrCode, render::svg};

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
        let code = QrCode::with_error_correction_level(&label.code, EcLevel::M)
            .map_err(|error| format!("{}: {error}", label.heading))?;
        let modules = code.width();
        let path = picture(&code);
        text += &format!(
            "<rect x=\"0.5\" y=\"{}.5\" width=\"{}\" height=\"{}\" rx=\"2\" fill=\"white\" stroke=\"black\" stroke-width=\"0.2\"/>\n",
            top,
            WIDTH - 1,
            HEIGHT - 1
        );
        let size = 24.0;
        text += &format!(
            "<g transform=\"translate(43 {}) scale({:.4})\">{path}</g>\n",
            top + 6,
            size / modules as f64
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
    fn the_picture_has_every_dark_module_of_the_code() {
        let svg = svg(&[label(), label()]).unwrap();
        let code = QrCode::with_error_correction_level(label().code, EcLevel::M).unwrap();
        let dark = code
            .to_colors()
            .iter()
            .filter(|color| **color == qrcode::Color::Dark)
            .count();
        // A square of the path is `M0 0h1v1H0V0`.
        assert_eq!(svg.matches("h1v1").count(), 2 * dark);
        assert_eq!(svg.matches("<text").count(), 2 * 3);
    }
}
