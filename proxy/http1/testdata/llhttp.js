// SPDX-License-Identifier: Apache-2.0
//
// Reads messages with Node's llhttp. A question is one byte for the side (q request, r response,
// h response to HEAD), four for the length, and what a peer has sent before it ended the
// connection; the answer is four bytes of length and JSON. Bytes are written as Latin-1.
'use strict';
const { HTTPParser, methods } = process.binding('http_parser');
const { kOnHeaders, kOnHeadersComplete, kOnBody, kOnMessageComplete } = HTTPParser;
const skipBody = 1;

function read(side, data) {
  const messages = [];
  let current = null;
  const fields = (flat, into) => {
    for (let i = 0; i + 1 < flat.length; i += 2) into.push([flat[i], flat[i + 1]]);
  };
  const parser = new HTTPParser();
  parser.initialize(side === 'q' ? HTTPParser.REQUEST : HTTPParser.RESPONSE, {}, 1 << 20, 0);
  const start = () => {
    current = current || { fields: [], trailers: [], body: [], complete: false };
    return current;
  };
  parser[kOnHeaders] = (flat, url) => {
    const message = start();
    fields(flat, message.head ? message.trailers : message.fields);
    if (!message.head) message.target = (message.target || '') + url;
  };
  parser[kOnHeadersComplete] = (major, minor, flat, method, url, status, reason, upgrade, keepAlive) => {
    const message = start();
    if (flat) fields(flat, message.fields);
    Object.assign(message, { head: true, major, minor, status: status || 0, upgrade, keepAlive });
    message.method = side === 'q' ? methods[method] : '';
    message.target = (message.target || '') + (url || '');
    messages.push(message);
    return side === 'h' ? skipBody : 0;
  };
  parser[kOnBody] = (body, offset, length) => {
    const part = offset === undefined ? body : body.subarray(offset, offset + length);
    current.body.push(Buffer.from(part));
  };
  parser[kOnMessageComplete] = () => {
    current.complete = true;
    current = null;
  };
  let result = parser.execute(data);
  let consumed = data.length;
  let error = '';
  if (result instanceof Error) {
    error = result.code;
    consumed = result.bytesParsed;
  } else {
    consumed = result;
    result = parser.finish();
    if (result instanceof Error) error = result.code;
  }
  parser.close();
  for (const message of messages) message.body = Buffer.concat(message.body).toString('latin1');
  return { messages, error, consumed };
}

let pending = Buffer.alloc(0);
process.stdin.on('data', (data) => {
  pending = Buffer.concat([pending, data]);
  while (pending.length >= 5) {
    const length = pending.readUInt32BE(1);
    if (pending.length < 5 + length) return;
    const answer = Buffer.from(JSON.stringify(read(String.fromCharCode(pending[0]), pending.subarray(5, 5 + length))));
    pending = pending.subarray(5 + length);
    const size = Buffer.alloc(4);
    size.writeUInt32BE(answer.length);
    process.stdout.write(Buffer.concat([size, answer]));
  }
});
