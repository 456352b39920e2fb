// The certificate that signs the Content Credentials of this stack: a leaf that fits C2PA's profile, and the
// CA that issued it. A real project gets the same from an authority. Only this stack trusts this CA.

import "reflect-metadata";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const makeKeys = () => crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);

export interface Credentials {
  /** The leaf and then its CA, in PEM. */
  credentialsCertificate: string;
  /** The key of the leaf: PKCS #8, in PEM. */
  credentialsKey: string;
}

/** Makes a certificate that is valid for 20 years, until `notAfter`. */
export async function makeCredentials(notAfter = yearsFrom(new Date(), 20)): Promise<Credentials> {
  const [authority, signer] = [await makeKeys(), await makeKeys()];
  const common = { notBefore: yearsFrom(notAfter, -20), notAfter, signingAlgorithm: algorithm };

  const ca = await X509CertificateGenerator.createSelfSigned({
    ...common,
    name: "CN=Local test CA, O=OpusFlair",
    keys: authority,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(authority.publicKey),
    ],
  });
  const leaf = await X509CertificateGenerator.create({
    ...common,
    subject: "CN=Local test signer, O=OpusFlair",
    issuer: ca.subject,
    publicKey: signer.publicKey,
    signingKey: authority.privateKey,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.emailProtection]),
      await SubjectKeyIdentifierExtension.create(signer.publicKey),
      await AuthorityKeyIdentifierExtension.create(authority.publicKey),
    ],
  });
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey("pkcs8", signer.privateKey));
  const lines = pkcs8.toString("base64").match(/.{1,64}/g)!.join("\n");
  return {
    credentialsCertificate: `${leaf.toString("pem")}\n${ca.toString("pem")}\n`,
    credentialsKey: `-----BEGIN PRIVATE KEY-----\n${lines}\n-----END PRIVATE KEY-----\n`,
  };
}

function yearsFrom(date: Date, years: number): Date {
  const then = new Date(date);
  then.setFullYear(date.getFullYear() + years);
  return then;
}
