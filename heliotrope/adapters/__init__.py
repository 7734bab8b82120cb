"""One third-party client an adapter; nobody else imports that client."""
