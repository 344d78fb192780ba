// SPDX-License-Identifier: Apache-2.0
// The @mistralai/mistralai package as its documentation uses it. Arguments: address, key, model.
import { Mistral } from '@mistralai/mistralai';
import { close, Features } from './features.mjs';

const QUESTION = [{ role: 'user', content: 'Hi' }]; // the answer is one sentence with the word STOP
const STOP = 'assist';

async function checkChat(client, model, checks) {
  const asked = { model, messages: QUESTION, temperature: 0, maxTokens: 24 };
  const answer = await client.chat.complete(asked);
  const text = answer.choices[0].message.content;
  checks.true('chat', text.includes(STOP));
  checks.equal('usage', answer.usage.totalTokens,
    answer.usage.promptTokens + answer.usage.completionTokens);
  let streamed = '';
  let last;
  for await (const event of await client.chat.stream(asked)) {
    streamed += event.data.choices[0].delta.content ?? '';
    last = event.data;
  }
  checks.equal('stream', streamed, text);
  checks.equal('usage, of a stream', last.usage.totalTokens, answer.usage.totalTokens);
  const stopped = await client.chat.complete({ ...asked, stop: [STOP] });
  checks.equal('stop', stopped.choices[0].message.content, text.split(STOP)[0]);
}

async function checkSampling(client, model, checks) {
  const asked = { model, messages: QUESTION, temperature: 1.3, maxTokens: 12, randomSeed: 5 };
  const content = async (more) => (await client.chat.complete({ ...asked, ...more }))
    .choices.map((choice) => choice.message.content);
  checks.equal('seed', await content({}), await content({}));
  checks.equal('n', (await content({ n: 2 })).length, 2);
}

async function checkOthers(client, model, checks) {
  const names = (await client.models.list()).data.map((one) => one.id);
  checks.true('models', names.includes(model));
  const vectors = (await client.embeddings.create({ model, inputs: ['a cat', 'a dog'] })).data;
  checks.equal('embeddings', vectors.map((one) => one.index), [0, 1]);
  checks.true('embeddings, they differ', !close(vectors[0].embedding, vectors[1].embedding));
}

async function checkErrors(client, model, checks) {
  const bad = await checks.raised('errors', () => client.chat.complete(
    { model, messages: QUESTION, temperature: 9 }));
  checks.equal('errors, a bad request', bad.statusCode, 400);
  checks.true('errors, its text', String(bad.body).includes('temperature'));
}

const [base, key, model] = process.argv.slice(2);
const client = new Mistral({ apiKey: key, serverURL: `${base}/mistral` });
const checks = new Features('@mistralai/mistralai (Node)');
checks.cannot('the client has no such call', 'logprobs', 'responses');
checks.cannot('the client asks, but reads lists of numbers alone', 'base64');
await checks.run([checkChat, checkSampling, checkOthers, checkErrors], client, model);
checks.end();
