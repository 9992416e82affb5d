import base64

import pytest

from contlearn.errors import ConfigError
from contlearn.notifications.signing import decode_secret, new_secret, sign


def test_signature_is_that_of_the_specification():
    # The example of the Standard Webhooks specification and its reference libraries.
    key = decode_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", where="x")
    signature = sign(
        [key],
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_reference_library_verifies_what_we_sign():
    webhooks = pytest.importorskip("standardwebhooks")
    import time

    secret = new_secret()
    body, now = b'{"type":"contlearn.test"}', int(time.time())
    keys = [decode_secret(new_secret(), where="x"), decode_secret(secret, where="x")]
    headers = {
        "webhook-id": "m1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign(keys, message_id="m1", timestamp=now, body=body),
    }
    assert webhooks.Webhook(secret).verify(body, headers) == {"type": "contlearn.test"}
    with pytest.raises(webhooks.WebhookVerificationError):
        webhooks.Webhook(secret).verify(body + b" ", headers)


@pytest.mark.parametrize(
    "secret", ["whsec_not base64!", base64.b64encode(b"short").decode(), "", "whsec_"]
)
def test_secret_that_is_none_is_refused_and_never_shown(secret):
    with pytest.raises(ConfigError) as caught:
        decode_secret(secret, where="secret.txt")
    assert (
        not secret or secret.removeprefix("whsec_") not in str(caught.value) or secret == "whsec_"
    )


def test_new_secrets_differ_and_are_long_enough():
    first, second = new_secret(), new_secret()
    assert first != second
    assert len(decode_secret(first, where="x")) == 32
