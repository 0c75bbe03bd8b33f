//! QR codes as PNG pictures: black and white, not compressed.

use qrcodegen::{QrCode, QrCodeEcc};

/// White modules around the code: ISO/IEC 18004 asks for four.
const QUIET: usize = 4;

/// Returns a text as a picture of about `size` pixels a side: as large as fits, and at least one pixel
/// for each module. `None` if a code cannot hold the text.
pub fn png(text: &str, size: usize) -> Option<Vec<u8>> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
    let modules = usize::try_from(code.size()).ok()?;
    let scale = (size / (modules + 2 * QUIET)).max(1);
    let side = scale * (modules + 2 * QUIET);
    let mut rows = Vec::with_capacity(side * (side / 8 + 2));
    for y in 0..side {
        // Each row begins with its filter: none.
        rows.push(0);
        for first in (0..side).step_by(8) {
            let mut byte = 0xff;
            for x in first..side.min(first + 8) {
                let module = |at: usize| {
                    let at = i32::try_from(at / scale).unwrap_or(i32::MAX);
                    at - i32::try_from(QUIET).unwrap_or(0)
                };
                if code.get_module(module(x), module(y)) {
                    byte &= !(0x80 >> (x - first));
                }
            }
            rows.push(byte);
        }
    }
    let side = u32::try_from(side).ok()?.to_be_bytes();
    // One bit a pixel, grey, deflate, the only filters, not interlaced.
    let header = [&side[..], &side, &[1, 0, 0, 0, 0]].concat();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [
        (b"IHDR", header),
        (b"IDAT", stored(&rows)),
        (b"IEND", Vec::new()),
    ] {
        let length = u32::try_from(data.len()).ok()?;
        png.extend_from_slice(&length.to_be_bytes());
        let start = png.len();
        png.extend_from_slice(kind);
        png.extend_from_slice(&data);
        let sum = crc32(&png[start..]);
        png.extend_from_slice(&sum.to_be_bytes());
    }
    Some(png)
}

/// A zlib stream of blocks that are stored as they are (RFC 1950, RFC 1951 section 3.2.4).
fn stored(data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut chunks = data.chunks(0xffff).peekable();
    while let Some(chunk) = chunks.next() {
        let length = u16::try_from(chunk.len()).unwrap_or(u16::MAX);
        stream.push(u8::from(chunks.peek().is_none()));
        stream.extend_from_slice(&length.to_le_bytes());
        stream.extend_from_slice(&(!length).to_le_bytes());
        stream.extend_from_slice(chunk);
    }
    stream.extend_from_slice(&adler32(data).to_be_bytes());
    stream
}

fn adler32(data: &[u8]) -> u32 {
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in data {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    high << 16 | low
}

/// The check sum of PNG's chunks (ISO/IEC 15948, annex D), bit by bit: pictures are small.
fn crc32(data: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in data {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 {
                0xedb8_8320 ^ (sum >> 1)
            } else {
                sum >> 1
            };
        }
    }
    !sum
}
