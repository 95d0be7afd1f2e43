/** CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), as PostgreSQL uses for WAL. */
const table = makeTable();

function makeTable(): Uint32Array {
  const result = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    result[byte] = crc >>> 0;
  }
  return result;
}

/** Unsigned 32-bit checksum of `bytes`; pass an earlier result as `previous` to continue it. */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  let crc = ~previous >>> 0;
  for (let i = 0; i < bytes.length; i++) crc = (crc >>> 8) ^ table[(crc ^ bytes[i]!) & 0xff]!;
  return ~crc >>> 0;
}
