CREATE DATABASE IF NOT EXISTS {{ database }} CHARACTER SET utf8mb4;
{% for client in clients %}
CREATE USER IF NOT EXISTS '{{ user }}'@'{{ client.address }}';
ALTER USER '{{ user }}'@'{{ client.address }}' IDENTIFIED BY '{{ password }}';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON {{ database }}.* TO '{{ user }}'@'{{ client.address }}';
{% endfor %}
{% for address in greeted %}
CREATE USER IF NOT EXISTS 'check'@'{{ address }}' ACCOUNT LOCK;
{% endfor %}
