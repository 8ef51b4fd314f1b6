// Verifies what a receiver got, by the package of Standard Webhooks: reads
// {"secret", "headers", "body"} from standard input, exits with 1 when it does not verify.
import { Webhook } from "standardwebhooks";
import { text } from "node:stream/consumers";

const { secret, headers, body } = JSON.parse(await text(process.stdin));
console.log(JSON.stringify(new Webhook(secret).verify(body, headers)));
