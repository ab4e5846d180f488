//! Access traces to hold an eviction policy against: a loader for the stored ones, generators for the synthetic ones,
//! and a reader of the reference results.
//!
//! Format, provenance and licences are described in `benches/traces/README.md`.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

/// Returns the folder of the traces that come with the repository.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/traces")
}

/// Loads a stored trace: a zstd frame of one little-endian u64 key per access.
///
/// # Errors
///
/// When the file cannot be read, is no zstd frame, or does not hold whole keys.
pub fn load(path: &Path) -> io::Result<Vec<u64>> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {reason}", path.display()));
    let file = BufReader::new(File::open(path)?);
    let mut frame = ruzstd::decoding::StreamingDecoder::new(file).map_err(|error| invalid(error.to_string()))?;
    let mut bytes = Vec::new();
    frame.read_to_end(&mut bytes)?;
    let (keys, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(invalid("its length is not a multiple of 8 bytes".to_owned()));
    }
    Ok(keys.iter().map(|key| u64::from_le_bytes(*key)).collect())
}

/// Makes a synthetic trace by its name in the reference, or `None` if there is none of that name.
#[must_use]
pub fn synthetic(name: &str) -> Option<Vec<u64>> {
    const KEYS: u64 = 100_000;
    const ACCESSES: u64 = 2_000_000;
    match name {
        "zipf-0.99" => {
            let mut zipf = Zipf::new(KEYS, 0.99, 42);
            Some((0..ACCESSES).map(|_| zipf.draw()).collect())
        }
        "zipf-scan" => {
            let (period, scan) = (100_000, 20_000);
            let mut zipf = Zipf::new(KEYS, 0.9, 43);
            let mut once = KEYS..;
            let access = |i: u64| if i % period >= period - scan { once.next() } else { Some(zipf.draw()) };
            (0..ACCESSES).map(access).collect()
        }
        "zipf-shift" => {
            let (phase, step) = (250_000, 10_007);
            let mut zipf = Zipf::new(KEYS, 0.9, 44);
            Some((0..ACCESSES).map(|i| (zipf.draw() + i / phase * step) % KEYS).collect())
        }
        _ => None,
    }
}

/// Draws ranks 0, 1, 2 … with probabilities in proportion to 1, 2⁻ᵃ, 3⁻ᵃ …
#[derive(Clone, Debug)]
pub struct Zipf {
    /// Sums of the weights up to each rank.
    cdf: Vec<f64>,
    random: SplitMix64,
}

impl Zipf {
    /// Makes a generator over `keys` keys with exponent `a`. Equal arguments draw equal ranks on every machine.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "ranks are far below 2^52")]
    pub fn new(keys: u64, a: f64, seed: u64) -> Self {
        let mut sum = 0.0;
        let weigh = |rank: u64| {
            sum += (rank as f64).powf(-a);
            sum
        };
        Self { cdf: (1..=keys).map(weigh).collect(), random: SplitMix64(seed) }
    }

    /// Draws a rank.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are kept, which is what an f64 holds")]
    pub fn draw(&mut self) -> u64 {
        let uniform = (self.random.next() >> 11) as f64 / (1u64 << 53) as f64;
        let x = uniform * self.cdf.last().copied().unwrap_or_default();
        let rank = self.cdf.partition_point(|&sum| sum <= x);
        rank.min(self.cdf.len().saturating_sub(1)) as u64
    }
}

/// The generator `splitmix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Returns the FNV-1a hash of keys as little-endian bytes, by which a trace is recognised.
#[must_use]
pub fn fingerprint(keys: &[u64]) -> u64 {
    keys.iter()
        .flat_map(|key| key.to_le_bytes())
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// One line of `reference.csv`: what a policy reaches on a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The trace's name.
    pub trace: String,
    /// How many accesses it has.
    pub accesses: u64,
    /// How many entries the cache held.
    pub capacity: usize,
    /// The policy, such as `LRU`.
    pub policy: String,
    /// Who measured it, such as `own-sim`.
    pub source: String,
    /// How many accesses hit.
    pub hits: u64,
}

impl Reference {
    /// Reads all lines of a `reference.csv`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or a line does not have the columns of the header.
    pub fn read(path: &Path) -> io::Result<Vec<Self>> {
        let text = std::fs::read_to_string(path)?;
        text.lines()
            .enumerate()
            .skip(1)
            .map(|(number, line)| {
                Self::parse(line).ok_or_else(|| {
                    let reason = format!("{}, line {}: cannot be read", path.display(), number + 1);
                    io::Error::new(io::ErrorKind::InvalidData, reason)
                })
            })
            .collect()
    }

    /// Columns: trace, accesses, unique, capacity, percent of unique, policy, source, hits, and more that are not used.
    fn parse(line: &str) -> Option<Self> {
        let mut columns = line.split(',');
        let trace = columns.next()?.to_owned();
        let accesses = columns.next()?.parse().ok()?;
        let capacity = columns.nth(1)?.parse().ok()?;
        let policy = columns.nth(1)?.to_owned();
        let source = columns.next()?.to_owned();
        let hits = columns.next()?.parse().ok()?;
        Some(Self { trace, accesses, capacity, policy, source, hits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_synthetic_traces_are_those_the_reference_was_measured_on() {
        for (name, first, print) in [
            ("zipf-0.99", [5041, 3, 18, 42, 0], 0xddc3_5e81_5c3c_768e),
            ("zipf-scan", [12043, 4194, 623, 28197, 0], 0x88a0_7911_646f_8b29),
            ("zipf-shift", [87764, 2652, 369, 18894, 261], 0x126f_1599_8463_7506),
        ] {
            let trace = synthetic(name).unwrap();
            assert_eq!(trace.len(), 2_000_000, "{name}");
            assert_eq!(trace[..5], first, "{name}");
            assert_eq!(fingerprint(&trace[..1000]), print, "{name}");
        }
        assert_eq!(synthetic("zipf"), None);
    }

    #[test]
    fn a_stored_trace_has_as_many_accesses_as_the_reference_says() {
        let reference = Reference::read(&folder().join("reference.csv")).unwrap();
        let web12 = reference.iter().find(|line| line.trace == "web12").unwrap();
        let trace = load(&folder().join("web12.u64.zst")).unwrap();
        assert_eq!(trace.len() as u64, web12.accesses);
    }

    #[test]
    fn a_damaged_trace_is_an_error_that_names_the_file() {
        let error = load(Path::new(env!("CARGO_MANIFEST_PATH"))).unwrap_err();
        assert!(error.to_string().contains("Cargo.toml"), "{error}");
    }
}
