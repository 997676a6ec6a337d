// Sends its input, to a host and port or to a path, and prints what comes back.
const [kind, host, port] = process.argv.slice(2);
const question = require("fs").readFileSync(0);

if (kind === "stream") {
  const client = require("net").connect(port ? { host, port } : { path: host });
  client.pipe(process.stdout);
  client.end(question);
} else {
  const client = require("dgram").createSocket(host.includes(":") ? "udp6" : "udp4");
  client.once("message", (answer) => {
    process.stdout.write(answer);
    client.close();
  });
  client.send(question, port, host);
}
