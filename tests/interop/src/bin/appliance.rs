//! Our Linux board with a configuration blob: `appliance BLOB wan=IFACE lan=IFACE`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    interop::appliance()
}
