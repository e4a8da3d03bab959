//! The few QEMU Machine Protocol commands that a rehearsal needs.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// A connection to one QEMU's monitor.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and negotiates.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut qmp = Self {
            reader: BufReader::new(stream),
        };
        let greeting = qmp.read()?;
        if greeting.get("QMP").is_none() {
            return Err(io::Error::other("this is not a QEMU monitor"));
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Raises or drops the carrier of the network device with this `-netdev` id.
    pub fn set_link(&mut self, netdev: &str, up: bool) -> io::Result<()> {
        self.execute("set_link", &json!({ "name": netdev, "up": up }))
            .map(drop)
    }

    /// Writes the machine's memory from an address on into a file.
    pub fn save_memory(&mut self, address: u64, size: u64, to: &Path) -> io::Result<()> {
        let arguments = json!({ "val": address, "size": size, "filename": to });
        self.execute("pmemsave", &arguments).map(drop)
    }

    /// Lets a debugger in at this socket.
    ///
    /// # Errors
    /// If QEMU refuses.
    pub fn debug(&mut self, socket: &Path) -> io::Result<()> {
        let line = format!("gdbserver unix:{},server=on,wait=off", socket.display());
        let said = self.execute("human-monitor-command", &json!({ "command-line": line }))?;
        match said.as_str() {
            Some(said) if !said.contains("Waiting for gdb connection") => {
                Err(io::Error::other(said.trim().to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> io::Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        let line = format!("{request}\r\n");
        self.reader.get_mut().write_all(line.as_bytes())?;
        loop {
            let answer = self.read()?;
            if let Some(error) = answer.get("error") {
                let text = error
                    .get("desc")
                    .and_then(Value::as_str)
                    .unwrap_or("unknown error");
                return Err(io::Error::other(format!("QEMU refused {command}: {text}")));
            }
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            // Anything else is an event.
        }
    }

    fn read(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn skips_events_and_passes_errors_on() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("qmp");
        let listener = UnixListener::bind(&path).expect("bind");
        let monitor = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("accept");
            let mut lines = BufReader::new(stream.try_clone().expect("clone")).lines();
            let answers = [
                r#"{"return": {}}"#,
                "{\"event\": \"RESUME\"}\n{\"return\": {}}",
                r#"{"error": {"class": "DeviceNotFound", "desc": "Device 'n9' not found"}}"#,
            ];
            writeln!(&stream, r#"{{"QMP": {{"version": {{}}}}}}"#).expect("greeting");
            answers
                .map(|answer| {
                    let request = lines.next().expect("a request").expect("a line");
                    writeln!(&stream, "{answer}").expect("answer");
                    request
                })
                .to_vec()
        });
        let mut qmp = Qmp::connect(&path).expect("connect");
        qmp.set_link("n0", false).expect("accepted");
        let error = qmp.set_link("n9", true).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "QEMU refused set_link: Device 'n9' not found"
        );
        let requests = monitor.join().expect("monitor");
        let second: Value = serde_json::from_str(&requests[1]).expect("JSON");
        assert_eq!(
            second,
            json!({"execute": "set_link", "arguments": {"name": "n0", "up": false}})
        );
    }
}
