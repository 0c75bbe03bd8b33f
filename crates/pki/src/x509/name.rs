//! Names of subjects and issuers (X.501).

use super::der::{self, Reader, Writer};

/// What a part of a name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    /// `C`.
    Country,
    /// `O`.
    Organization,
    /// `OU`.
    Unit,
    /// `L`.
    Locality,
    /// `ST`.
    Province,
    /// `STREET`.
    Street,
    /// `postalCode`.
    PostalCode,
    /// `CN`.
    CommonName,
    /// `serialNumber`: of the subject, not of the certificate.
    SerialNumber,
    /// `UID`.
    UserId,
}

/// Attributes in the order in which they are written, and their identifiers.
const ORDER: &[(Attribute, &[u8])] = &[
    (Attribute::Country, &[0x55, 4, 6]),
    (Attribute::Organization, &[0x55, 4, 10]),
    (Attribute::Unit, &[0x55, 4, 11]),
    (Attribute::Locality, &[0x55, 4, 7]),
    (Attribute::Province, &[0x55, 4, 8]),
    (Attribute::Street, &[0x55, 4, 9]),
    (Attribute::PostalCode, &[0x55, 4, 17]),
    (Attribute::CommonName, &[0x55, 4, 3]),
    (Attribute::SerialNumber, &[0x55, 4, 5]),
    (
        Attribute::UserId,
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1],
    ),
];

/// A name: what each attribute says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name(Vec<(Attribute, String)>);

impl Name {
    /// Adds a value, if it is not empty.
    pub fn push(&mut self, attribute: Attribute, value: &str) {
        if !value.is_empty() {
            self.0.push((attribute, value.to_owned()));
        }
    }

    /// Adds values.
    pub fn extend(&mut self, attribute: Attribute, values: &[String]) {
        for value in values {
            self.push(attribute, value);
        }
    }

    /// Returns the values of an attribute.
    pub fn all(&self, attribute: Attribute) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(found, _)| *found == attribute)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the last value of an attribute, the one that programs show as the name's.
    pub fn last(&self, attribute: Attribute) -> Option<&str> {
        self.all(attribute).last()
    }

    /// Writes it as DER.
    pub fn to_der(&self) -> Vec<u8> {
        let mut out = Writer::with_room(64);
        out.nest(der::SEQUENCE, |out| {
            for (attribute, oid) in ORDER {
                for value in self.all(*attribute) {
                    // Countries and serial numbers are printable strings where they can be, as elsewhere.
                    let tag = if value.bytes().all(is_printable) {
                        der::PRINTABLE_STRING
                    } else {
                        der::UTF8_STRING
                    };
                    out.nest(der::SET, |out| {
                        out.nest(der::SEQUENCE, |out| {
                            out.value(der::OID, oid);
                            out.value(tag, value.as_bytes());
                        });
                    });
                }
            }
        });
        out.into_bytes()
    }

    /// Reads what is known of a name in DER; other attributes are left out.
    pub fn from_der(name: &[u8]) -> Result<Self, der::NotDer> {
        let mut outer = Reader::new(name);
        let mut sets = outer.nested(der::SEQUENCE)?;
        outer.end()?;
        let mut this = Self::default();
        while !sets.is_empty() {
            let mut set = sets.nested(der::SET)?;
            while !set.is_empty() {
                let mut pair = set.nested(der::SEQUENCE)?;
                let oid = pair.value(der::OID)?;
                let (tag, content, _) = pair.any()?;
                pair.end()?;
                let known = ORDER.iter().find(|(_, known)| *known == oid);
                if let (Some((attribute, _)), Some(text)) = (known, text(tag, content)) {
                    this.0.push((*attribute, text));
                }
            }
        }
        Ok(this)
    }
}

/// One value of a name, as it stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributeValue<'a> {
    /// What it tells: the content of an object identifier.
    pub oid: &'a [u8],
    tag: u8,
    content: &'a [u8],
}

impl AttributeValue<'_> {
    /// Returns whether it is ASCII by its type.
    pub fn is_ia5(&self) -> bool {
        self.tag == der::IA5_STRING
    }

    /// Returns it as text, whichever of the types of text it is of.
    pub fn text(&self) -> Option<String> {
        match self.tag {
            der::UTF8_STRING | der::PRINTABLE_STRING | der::IA5_STRING | der::VISIBLE_STRING => {
                String::from_utf8(self.content.to_vec()).ok()
            }
            // Nobody writes other letters than those of Latin 1 in it.
            der::T61_STRING => Some(self.content.iter().copied().map(char::from).collect()),
            der::BMP_STRING => {
                let (units, []) = self.content.as_chunks::<2>() else {
                    return None;
                };
                let units: Vec<u16> = units.iter().copied().map(u16::from_be_bytes).collect();
                String::from_utf16(&units).ok()
            }
            der::UNIVERSAL_STRING => {
                let (letters, []) = self.content.as_chunks::<4>() else {
                    return None;
                };
                let letters = letters.iter().copied().map(u32::from_be_bytes);
                letters.map(char::from_u32).collect()
            }
            _ => None,
        }
    }

    /// Writes it so that what counts as the same is the same: without regard to case in ASCII, to the
    /// type of text, and to how many spaces there are (RFC 5280, section 7.1).
    fn write_canonical(&self, out: &mut Writer) -> Result<(), der::NotDer> {
        const TEXTS: &[u8] = &[
            der::UTF8_STRING,
            der::PRINTABLE_STRING,
            der::IA5_STRING,
            der::VISIBLE_STRING,
            der::T61_STRING,
            der::BMP_STRING,
            der::UNIVERSAL_STRING,
        ];
        out.value(der::OID, self.oid);
        if !TEXTS.contains(&self.tag) {
            out.value(self.tag, self.content);
            return Ok(());
        }
        let text = self.text().ok_or(der::NotDer)?.to_ascii_lowercase();
        let is_space = |letter: char| letter.is_ascii_whitespace() || letter == '\u{b}';
        let words: Vec<&str> = text.split(is_space).filter(|it| !it.is_empty()).collect();
        out.value(der::UTF8_STRING, words.join(" ").as_bytes());
        Ok(())
    }
}

/// Reads all values of a name in DER: the parts from the top down, and the values of each.
pub fn name_values(name: &[u8]) -> Result<Vec<Vec<AttributeValue<'_>>>, der::NotDer> {
    let mut outer = Reader::new(name);
    let mut sets = outer.nested(der::SEQUENCE)?;
    outer.end()?;
    let mut parts = Vec::new();
    while !sets.is_empty() {
        let mut set = sets.nested(der::SET)?;
        let mut values = Vec::new();
        while !set.is_empty() {
            let mut pair = set.nested(der::SEQUENCE)?;
            let oid = pair.value(der::OID)?;
            let (tag, content, _) = pair.any()?;
            pair.end()?;
            values.push(AttributeValue { oid, tag, content });
        }
        parts.push(values);
    }
    Ok(parts)
}

/// Returns the parts of a name in DER in a form in which those that count as the same are the same.
pub fn canonical_name(name: &[u8]) -> Result<Vec<Vec<u8>>, der::NotDer> {
    let canonical = |values: Vec<AttributeValue<'_>>| {
        let mut written = Vec::with_capacity(values.len());
        for value in values {
            let mut out = Writer::default();
            value.write_canonical(&mut out)?;
            written.push(out.into_bytes());
        }
        // The values of one part have no order.
        written.sort_unstable();
        Ok(written.concat())
    };
    name_values(name)?.into_iter().map(canonical).collect()
}

fn text(tag: u8, content: &[u8]) -> Option<String> {
    match tag {
        der::UTF8_STRING | der::PRINTABLE_STRING | der::IA5_STRING | der::T61_STRING => {
            String::from_utf8(content.to_vec()).ok()
        }
        _ => None,
    }
}

/// `PrintableString` (X.680), of which `*` and `&` are no part.
fn is_printable(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte)
}
