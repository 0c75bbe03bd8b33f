//! Keys that never leave the server.

use anyhow::{Context as _, ensure};
use vaultrs::api::transit::requests::{
    CreateKeyRequest, DataKeyType, DecryptDataRequest, EncryptDataRequest, ExportKeyType,
    ExportVersion, RandomBytesSource, RestoreKeyRequest, SignDataRequest,
    UpdateKeyConfigurationRequest, VerifySignedDataRequest,
};
use vaultrs::api::transit::responses::ReadKeyData;
use vaultrs::api::transit::{
    HashAlgorithm, KeyType, MarshalingAlgorithm, OutputFormat, SignatureAlgorithm,
};
use vaultrs::client::VaultClient;
use vaultrs::sys;
use vaultrs::transit::{cache, data, generate, key};

use crate::refused;

const AT: &str = "transit";
/// `hello`.
const HELLO: &str = "aGVsbG8=";

pub async fn judge(client: &VaultClient) -> anyhow::Result<()> {
    sys::mount::enable(client, AT, "transit", None).await?;
    let mut asked = CreateKeyRequest::builder();
    asked.exportable(true).allow_plaintext_backup(true);
    key::create(client, AT, "box", Some(&mut asked)).await?;
    let old = data::encrypt(client, AT, "box", HELLO, None)
        .await?
        .ciphertext;
    ensure!(old.starts_with("vault:v1:"));
    ensure!(
        data::decrypt(client, AT, "box", &old, None)
            .await?
            .plaintext
            == HELLO
    );
    key::rotate(client, AT, "box").await?;
    let new = data::rewrap(client, AT, "box", &old, None)
        .await?
        .ciphertext;
    ensure!(new.starts_with("vault:v2:"));
    ensure!(
        data::decrypt(client, AT, "box", &new, None)
            .await?
            .plaintext
            == HELLO
    );

    let mut asked = UpdateKeyConfigurationRequest::builder();
    asked.min_decryption_version(2_u64).deletion_allowed(true);
    key::update(client, AT, "box", Some(&mut asked)).await?;
    refused(
        data::decrypt(client, AT, "box", &old, None).await,
        400,
        "too old",
    )?;
    let read = key::read(client, AT, "box").await?;
    ensure!(matches!(read.key_type, KeyType::Aes256Gcm96) && read.min_decryption_version == 2);
    ensure!(read.supports_encryption && !read.supports_signing && read.deletion_allowed);
    let ReadKeyData::Symmetric(keys) = read.keys else {
        anyhow::bail!("the keys of AES are told as if they had public halves");
    };
    ensure!(keys.len() == 1 && keys.contains_key("2"), "{keys:?}");

    let mut bound = EncryptDataRequest::builder();
    let sealed =
        data::encrypt(client, AT, "box", HELLO, Some(bound.associated_data(HELLO))).await?;
    refused(
        data::decrypt(client, AT, "box", &sealed.ciphertext, None).await,
        400,
        "",
    )?;
    let mut bound = DecryptDataRequest::builder();
    bound.associated_data(HELLO);
    let opened = data::decrypt(client, AT, "box", &sealed.ciphertext, Some(&mut bound)).await?;
    ensure!(opened.plaintext == HELLO);

    let all = key::export(
        client,
        AT,
        "box",
        ExportKeyType::EncryptionKey,
        ExportVersion::All,
    );
    ensure!(all.await?.keys.len() == 1);
    let backup = key::backup(client, AT, "box").await?.backup;
    key::delete(client, AT, "box").await?;
    refused(key::read(client, AT, "box").await, 404, "")?;
    let mut asked = RestoreKeyRequest::builder();
    key::restore(client, AT, &backup, Some(asked.name("box"))).await?;
    ensure!(
        data::decrypt(client, AT, "box", &new, None)
            .await?
            .plaintext
            == HELLO
    );
    ensure!(key::list(client, AT).await?.keys == ["box"]);

    let made = generate::data_key(client, AT, "box", DataKeyType::Plaintext, None).await?;
    let opened = data::decrypt(client, AT, "box", &made.ciphertext, None).await?;
    ensure!(made.plaintext == Some(opened.plaintext));
    let made = generate::data_key(client, AT, "box", DataKeyType::Wrapped, None).await?;
    ensure!(made.plaintext.is_none());
    let source = RandomBytesSource::Platform;
    let drawn = generate::random_bytes(client, AT, OutputFormat::Hex, source, None).await?;
    ensure!(drawn.random_bytes.len() == 64);
    ensure!(cache::read(client, AT).await?.size == 0);
    Ok(())
}

pub async fn signatures(client: &VaultClient) -> anyhow::Result<()> {
    let sum = generate::hash(client, AT, HELLO, None).await?.sum;
    let is_known = sum == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    ensure!(is_known, "SHA-256 of `hello` is {sum}");
    let mac = generate::hmac(client, AT, "box", HELLO, None).await?.hmac;
    let mut asked = VerifySignedDataRequest::builder();
    ensure!(
        data::verify(client, AT, "box", HELLO, Some(asked.hmac(mac)))
            .await?
            .valid
    );

    let kinds = [
        ("ed", KeyType::Ed25519),
        ("p256", KeyType::EcdsaP256),
        ("rsa", KeyType::Rsa2048),
    ];
    for (name, kind) in kinds {
        let mut asked = CreateKeyRequest::builder();
        key::create(client, AT, name, Some(asked.key_type(kind))).await?;
        let read = key::read(client, AT, name).await?;
        ensure!(read.supports_signing);
        let ReadKeyData::Asymmetric(keys) = read.keys else {
            anyhow::bail!("{name} has no public key");
        };
        let public = keys.get("1").context("version 1 is not told")?;
        ensure!(!public.public_key.is_empty());
        let signed = data::sign(client, AT, name, HELLO, None).await?.signature;
        ensure!(signed.starts_with("vault:v1:"));
        for (input, expect) in [(HELLO, true), ("b3RoZXI=", false)] {
            let mut asked = VerifySignedDataRequest::builder();
            asked.signature(signed.as_str());
            let valid = data::verify(client, AT, name, input, Some(&mut asked))
                .await?
                .valid;
            ensure!(
                valid == expect,
                "{name} finds the signature of {input} {valid}"
            );
        }
    }
    let mut asked = SignDataRequest::builder();
    asked
        .hash_algorithm(HashAlgorithm::Sha2_512)
        .signature_algorithm(SignatureAlgorithm::Pkcs1v15);
    let signed = data::sign(client, AT, "rsa", HELLO, Some(&mut asked))
        .await?
        .signature;
    let mut asked = VerifySignedDataRequest::builder();
    asked
        .signature(signed)
        .hash_algorithm(HashAlgorithm::Sha2_512)
        .signature_algorithm(SignatureAlgorithm::Pkcs1v15);
    ensure!(
        data::verify(client, AT, "rsa", HELLO, Some(&mut asked))
            .await?
            .valid
    );
    let mut asked = SignDataRequest::builder();
    asked.marshaling_algorithm(MarshalingAlgorithm::Jws);
    let signed = data::sign(client, AT, "p256", HELLO, Some(&mut asked))
        .await?
        .signature;
    // 64 bytes, in base64 without padding.
    ensure!(signed.len() == "vault:v1:".len() + 86, "{signed}");
    refused(data::sign(client, AT, "box", HELLO, None).await, 400, "")
}
