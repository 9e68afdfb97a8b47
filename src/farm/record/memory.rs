//! The memory of this process, as the kernel counts it.

/// Resident memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub bytes: u64,
    /// The most at a time.
    pub peak_bytes: u64,
}

impl Memory {
    /// As it is; none where the system does not say (only Linux does).
    pub fn now() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        Some(Self { bytes: field(&status, "VmRSS:")?, peak_bytes: field(&status, "VmHWM:")? })
    }
}

fn field(status: &str, name: &str) -> Option<u64> {
    let kibibytes = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(kibibytes.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_numbers_are_read() {
        let status = "Name:\ttracefarm\nVmPeak:\t  9 kB\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n";
        assert_eq!((field(status, "VmRSS:"), field(status, "VmHWM:")), (Some(1 << 20), Some(2 << 20)));
        assert_eq!(field(status, "VmSwap:"), None);
        if cfg!(target_os = "linux") {
            let now = Memory::now().unwrap();
            assert!(0 < now.bytes && now.bytes <= now.peak_bytes, "{now:?}");
        }
    }
}
