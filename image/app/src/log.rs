//! One JSON object per line on standard output, which the journal keeps.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

/// Writes one line. That nobody reads it is no reason to stop, so errors are dropped.
pub fn line(level: &str, fields: &[(&str, Value)]) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let text = object(now.as_secs_f64(), level, fields);
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn object(unix_time: f64, level: &str, fields: &[(&str, Value)]) -> Value {
    let mut object = Map::new();
    object.insert("time".to_owned(), unix_time.into());
    object.insert("level".to_owned(), level.into());
    object.extend(
        fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
    object.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a client sends ends up inside a string, on one line.
    #[test]
    fn strangers_cannot_forge_lines_or_fields() {
        let path = "/\n{\"level\":\"error\"}\"";
        let line = object(1.5, "info", &[("path", path.into())]).to_string();
        assert!(!line.contains('\n'));
        let parsed: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["path"], path);
        assert_eq!(parsed["level"], "info");
        assert_eq!(parsed["time"], 1.5);
    }
}
